"""What a synthetic set is worth: pictures, networks, studies that go on where they stopped, the command."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from shared_fixtures import ended, started

from ovamnb.data import load_data
from ovamnb.data.base import Data, Example
from ovamnb.data.emoji_sets import Pool
from ovamnb.data.on_disk import IGNORED
from ovamnb.downstream import __main__ as command
from ovamnb.downstream.learn import Training, pixel_loss, predict, score, train
from ovamnb.downstream.network import NETWORKS, Segmenter
from ovamnb.downstream.pictures import ZOOM, coloured, drawn, fitting, sample, varied
from ovamnb.downstream.sources import Matched, chosen, content_hash, source
from ovamnb.downstream.study import MIXES, Run, Study, path_of
from ovamnb.downstream.table import COLUMNS, StudyTable, spread
from ovamnb.emoji import streams as data
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import STREAMS
from ovamnb.evaluation.metrics import mean_iou
from ovamnb.evaluation.report import read_table

RED, BLUE = (220, 40, 30), (30, 60, 210)
TINY = {"steps": 2, "batch": 2, "size": (32, 48)}


class Blocks(Data):
    """Red and blue blocks on grey, of two sizes of picture; red is "car", blue is "cat"."""

    def __init__(self, count=6, classes=("car", "cat"), first=0):
        self.classes, self.first = classes, first
        self.names = tuple(f"blocks-{i}" for i in range(first, first + count))

    def read(self, index):
        rng = np.random.default_rng(self.first + index)
        h, w = (40, 56) if index % 2 else (48, 36)
        pixels = rng.normal(128, 10, (h, w, 3)).clip(0, 255).astype(np.uint8)
        labels = np.zeros((h, w), np.uint8)
        for name, colour, left in (("car", RED, 2), ("cat", BLUE, w // 2 + 1)):
            if name in self.classes:
                top, side = int(rng.integers(0, h // 2)), w // 3
                pixels[top : top + side, left : left + side] = colour
                labels[top : top + side, left : left + side] = self.classes.index(name) + 1
        return Example(self.names[index], labels, Image.fromarray(pixels))


class Empty(Blocks):
    def __init__(self):
        super().__init__(0)


def study(**options):
    options = {
        "sizes": (2, 4),
        "seeds": (0,),
        "recipe": Training(**TINY),
        "device": "cpu",
        "quiet": True,
    } | options
    synthetic = {"ours": Matched(Blocks(3, ("cat",), first=50), ("car", "cat"))}
    return Study(Blocks(), Blocks(3, first=20), options.pop("synthetic", synthetic), **options)


class TestPictures:
    def test_views_are_of_one_size_and_ignore_what_lies_outside(self):
        rng = np.random.default_rng(0)
        outside = 0
        for example in Blocks():
            image, labels = varied(*sample(example, (32, 48)), (32, 48), rng)
            assert image.shape == (3, 32, 48) and labels.shape == (32, 48)
            assert {*labels.unique().tolist()} <= {0, 1, 2, IGNORED}
            outside += int((labels == IGNORED).sum())
            inside = labels != IGNORED
            red = (image[0] > 0.4) & (image[2] < -0.2) & inside
            assert (labels[red] == 1).float().mean() > 0.85, "labels move with their pixels"
        assert outside > 0

    def test_ignored_labels_stay_ignored(self):
        image = torch.zeros(3, 20, 30, dtype=torch.uint8)
        labels = torch.full((20, 30), IGNORED, dtype=torch.uint8)
        for seed in range(5):
            _, found = varied(image, labels, (32, 48), np.random.default_rng(seed))
            assert (found == IGNORED).all()

    def test_every_part_of_a_picture_comes_up(self):
        labels = torch.arange(40, dtype=torch.uint8).repeat(20, 1)
        seen = set()
        for seed in range(60):
            image = torch.zeros(3, 20, 40, dtype=torch.uint8)
            _, found = varied(image, labels, (16, 32), np.random.default_rng(seed))
            seen |= {*found.unique().tolist()}
            columns = found[found != IGNORED].float()
            assert columns.max() - columns.min() > 20 / ZOOM[1], "most of it each time"
        assert seen - {IGNORED} == set(range(40))

    def test_large_pictures_are_reduced_and_keep_their_shape(self):
        example = Example("wide", np.ones((300, 900), np.uint8), Image.new("RGB", (900, 300)))
        image, labels = sample(example, (32, 48))
        assert image.shape[1:] == labels.shape == (round(16 * ZOOM[1]), round(48 * ZOOM[1])), (
            "no larger than used"
        )
        assert fitting((300, 900), (32, 48)) == 48 / 900
        small = sample(Example("small", np.ones((5, 7), np.uint8), Image.new("L", (7, 5))), (32, 48))
        assert small[0].shape == (3, 5, 7), "never enlarged here"

    def test_a_batch_depends_on_its_number_and_the_seed_alone(self):
        pool = [sample(example, (32, 48)) for example in Blocks()]
        options = {"batch": 5, "size": (32, 48)}
        first = drawn([pool], 7, seed=1, **options)
        drawn([pool], 0, seed=1, **options)
        again, other, step = (drawn([pool], n, seed=s, **options) for n, s in ((7, 1), (7, 2), (8, 1)))
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], step[0])

    def test_pools_take_turns_whatever_their_size_and_the_batch(self):
        one, two = ([(torch.zeros(3, 8, 8), torch.full((8, 8), k))] * n for k, n in ((1, 1), (2, 50)))
        labels = [drawn([one, two], step, batch=3, size=(8, 8), seed=0)[1] for step in range(4)]
        found = torch.cat(labels)[:, 4, 4]
        assert found.tolist() == [1, 2] * 6

    def test_no_colour_change_changes_nothing(self):
        image = torch.rand(3, 4, 5) * 2 - 1
        assert torch.allclose(coloured(image, 0, 0, 0), image, atol=1e-6)
        assert torch.allclose(coloured(image, 0, 0, -1), image.mean(0).expand(3, 4, 5), atol=1e-6)
        assert torch.allclose(coloured(image, 0.1, 0, 0), image + 0.1, atol=1e-6)


class TestSources:
    def test_labels_are_matched_by_name(self):
        data = Matched(Blocks(2, ("cat", "car")), ("bird", "car", "cat"))
        plain = Blocks(2, ("cat", "car"))
        assert data.classes == ("bird", "car", "cat") and data.names == plain.names
        for index in range(2):
            before, after = plain[index].labels, data[index].labels
            assert (after[before == 1] == 3).all() and (after[before == 2] == 2).all()
            assert (after[before == 0] == 0).all()

    def test_what_does_not_count_stays_so(self):
        class Ignoring(Blocks):
            def read(self, index):
                example = super().read(index)
                example.labels[0] = IGNORED
                return example

        assert (Matched(Ignoring(), ("car", "cat", "dog"))[0].labels[0] == IGNORED).all()

    def test_what_cannot_be_matched_is_refused(self):
        with pytest.raises(ValueError, match=r"no class cat: it has car, dog.*classes\.txt"):
            Matched(Blocks(), ("car", "dog"))
        with pytest.raises(ValueError, match="has no pictures"):
            Matched(Empty(), ("car", "cat"))
        prompts = load_data("emoji-sim", split="validation")
        with pytest.raises(ValueError, match="is a prompt without a picture"):
            Matched(prompts, prompts.classes)[0]

    def test_fewer_real_pictures_are_among_more(self):
        for seed in (0, 1):
            few, more = chosen(420, 25, seed), chosen(420, 400, seed)
            assert few == more[:25] and len({*more}) == 400
        assert {*chosen(420, 25, 0)} != {*chosen(420, 25, 1)}
        for k in (0, 421):
            with pytest.raises(ValueError, match=f"k = {k} is out of range: the pool has 420"):
                chosen(420, k, 0)

    def test_a_mark_tells_pictures_apart(self):
        samples = [sample(example, (32, 48)) for example in Blocks(2)]
        before = content_hash(samples)
        assert before == content_hash([sample(example, (32, 48)) for example in Blocks(2)])
        samples[1][1][0, 0] = 1
        assert content_hash(samples) != before


class TestPool:
    def test_it_is_stratified_and_of_the_test_pictures_kind(self):
        pool = Pool()
        assert len(pool) >= 400 and pool.classes == CONCEPTS and len({*pool.names}) == len(pool)
        for index in (0, 1, 2, 3, 17, 419):
            shown = pool[index].present()
            assert len(shown) == index % 15 % 3 + 1
            assert CONCEPTS.index(pool.names[index].rsplit("-", 1)[0].replace("-", " ")) + 1 in shown
        assert pool[7].image.tobytes() == Pool()[7].image.tobytes()

    def test_no_other_use_sees_its_scenes(self, monkeypatch):
        assert len({*STREAMS}) == len(STREAMS) and STREAMS.index("downstream") == 9, "append only"
        plain, keys = data.stream_rng, []
        monkeypatch.setattr(data, "stream_rng", lambda *key: keys.append(key) or plain(*key))
        pool, test = Pool(), load_data("emoji-real", split="test")
        mine = [pool[i].image.tobytes() for i in (0, 3, 6, 30)]
        assert {stream for _, stream, _ in keys} == {"downstream"}
        others = [test[i].image.tobytes() for i in (0, 3, 6, 30)]
        assert len({*mine, *others}) == 8 and not {plain(*key).random() for key in keys[:50]} & {
            plain(seed, "test", index).random() for seed, _, index in keys[:50]
        }


class TestLearning:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_every_network_answers_at_any_size(self, name):
        module = Segmenter(name, ("car", "cat", "dog"), (40, 72)).eval()
        assert module(torch.zeros(2, 3, 40, 72)).shape[:2] == (2, 4)
        for size in ((56, 40), (30, 31), (200, 64), (3, 90)):
            labels = predict(module, Image.new("RGB", size))
            assert (
                labels.shape == size[::-1]
                and labels.dtype == torch.int64
                and 0 <= labels.min() <= labels.max() <= 3
            )

    @pytest.mark.slow
    def test_it_learns_and_the_same_seed_learns_the_same(self):
        options = {"steps": 30, "batch": 4, "size": (32, 48), "quiet": True, "device": "cpu"}
        data, test = Blocks(12), Blocks(4, first=30)
        module = train([data], data.classes, seed=3, **options)
        untrained = Segmenter(module.name, data.classes, (32, 48)).eval()
        assert mean_iou(score(module, test)) > mean_iou(score(untrained, test)) + 0.3
        state = torch.get_rng_state()
        short = {**options, "steps": 3}
        once, again, other = (train([data], data.classes, seed=s, **short) for s in (3, 3, 4))
        assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
        same = [torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True)]
        assert all(same) and not torch.equal(next(once.parameters()), next(other.parameters()))

    def test_pixels_that_do_not_count_have_no_gradient(self):
        logits = torch.randn(2, 3, 8, 12, requires_grad=True)
        labels = torch.randint(3, (2, 8, 12))
        labels[0] = IGNORED
        labels[1, :, 6:] = IGNORED
        pixel_loss(logits, labels).backward()
        assert logits.grad[0].abs().max() == 0 and logits.grad[1, :, :, 7:].abs().max() == 0
        assert logits.grad[1, :, :, :6].abs().min() > 0
        nothing = pixel_loss(logits, torch.full((2, 8, 12), IGNORED))
        assert nothing == 0, "not a number otherwise"

    def test_a_source_without_labels_teaches_nothing(self):
        class Unlabelled(Blocks):
            def read(self, index):
                example = super().read(index)
                example.labels[:] = IGNORED
                return example

        module = Segmenter(Training().network, ("car", "cat"), (32, 48))
        images, labels = drawn(
            [[sample(e, (32, 48)) for e in Unlabelled()]], 0, batch=2, size=(32, 48), seed=0
        )
        pixel_loss(module(images), labels).backward()
        assert all(p.grad is None or p.grad.abs().max() == 0 for p in module.parameters())

    def test_one_after_the_other(self, monkeypatch):
        from ovamnb.downstream import learn

        seen, plain = [], drawn
        monkeypatch.setattr(
            learn, "drawn", lambda now, step, **o: seen.append([len(p) for p in now]) or plain(now, step, **o)
        )
        options = {**TINY, "steps": 5, "quiet": True, "device": "cpu"}
        train([Blocks(3), Blocks(5)], ("car", "cat"), then=True, **options)
        assert seen == [[3], [3], [3], [5], [5]]
        seen.clear()
        train([Blocks(3), Blocks(5)], ("car", "cat"), **options)
        assert seen == [[3, 5]] * 5

    @pytest.mark.parametrize("name", NETWORKS)
    def test_a_batch_of_one(self, name):
        module = train(
            [Blocks(2)], ("car", "cat"), network=name, quiet=True, device="cpu", **TINY | {"batch": 1}
        )
        assert all(p.isfinite().all() for p in module.parameters())

    def test_scores_match_labels_by_name(self):
        module = Segmenter("unet", ("cat", "car"), (32, 48)).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            module.network.net.conv_out.bias[2] = 1  # everything is a car
        table, example = score(module, Blocks(1)), Blocks(1)[0]
        assert table[:, 2].tolist() == [int((example.labels == k).sum()) for k in (0, 2, 1)]
        assert table.sum() == example.labels.size

    def test_bad_requests(self):
        with pytest.raises(ValueError, match="no network 'unnet': choose of"):
            train([Blocks()], ("car", "cat"), network="unnet")
        with pytest.raises(ValueError, match="steps counts from 1, not 0"):
            Training(steps=0)
        for nothing in ([], [[]], [Blocks(), []]):
            with pytest.raises(ValueError, match="nothing to learn from"):
                train(nothing, ("car", "cat"), **TINY)


class TestStudy:
    def test_from_pictures_to_tables(self, tmp_path):
        plan = study(sizes=(2,), seeds=(0, 1))
        plan.run(tmp_path)
        assert len(plan.runs) == 2 * 4 == len(list((tmp_path / "runs").iterdir()))
        report = StudyTable(plan, tmp_path)
        report.save(tmp_path)
        rows = read_table(tmp_path / "scores.csv")
        assert tuple(rows[0]) == COLUMNS and len(rows) == len(plan.runs)
        assert {(row["source"], row["mix"]) for row in rows} == {
            ("real", "real"),
            *(("ours", m) for m in [*MIXES][1:]),
        }
        assert {row["pictures"] for row in rows if row["mix"] == "real"} == {0}
        assert {row["pictures"] for row in rows if row["mix"] != "real"} == {3}
        classes = read_table(tmp_path / "classes.csv")
        assert len(classes) == 3 * len(rows)
        own = [row["IoU"] for row in classes[:3]]
        assert np.nanmean(own[1:]) == pytest.approx(rows[0]["miou"], abs=2e-3)
        assert np.nanmean(own) == pytest.approx(rows[0]["miou_background"], abs=2e-3)
        found = json.loads(path_of(tmp_path, plan.runs[0]).read_text())
        assert sum(map(sum, found["table"])) == sum(example.labels.size for example in plan.test)
        text = report.text()
        assert "k = 2" in text and "±" in text and "3 test pictures, 2 classes" in text and "ours 3" in text

    def test_it_goes_on_where_it_stopped(self, tmp_path, monkeypatch):
        plain, count = Study.result, 0

        def stop_at_the_third(self, run):
            nonlocal count
            count += 1
            if count == 3:
                raise KeyboardInterrupt
            return plain(self, run)

        monkeypatch.setattr(Study, "result", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            study().run(tmp_path)
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
        assert len(done) == 2
        with pytest.raises(
            ValueError, match="5 of 7 runs are not there yet, 'ours-synthetic-k0-seed0' among them"
        ):
            StudyTable(study(), tmp_path)
        study().run(tmp_path)
        assert count == 8 and all(path.stat().st_mtime_ns == when for path, when in done.items())
        path_of(tmp_path, Run("real", "real", 2, 0)).write_text('{"run": ')
        study().run(tmp_path)
        assert count == 9, "a damaged result is made again"
        study(seeds=(0, 1), mixes=("real",)).run(tmp_path)
        assert count == 11, "more can be asked of the same folder"
        assert not list(tmp_path.rglob("*.partial"))

    def test_results_depend_on_nothing_that_ran_before(self, tmp_path):
        study(sizes=(2,)).run(tmp_path / "all")
        last = Run("ours", "then", 2, 0)
        alone = study(sizes=(2,)).result(last)
        assert alone["table"] == json.loads(path_of(tmp_path / "all", last).read_text())["table"]

    def test_other_settings_and_other_pictures_are_refused(self, tmp_path):
        study(mixes=("synthetic",)).run(tmp_path)
        with pytest.raises(ValueError, match=r"recipe: .*there.*give another folder"):
            study(recipe=Training(**TINY | {"steps": 4})).run(tmp_path)
        with pytest.raises(ValueError, match=r"sources/ours' holds results of other settings .*contents"):
            study(synthetic={"ours": Matched(Blocks(3, first=60), ("car", "cat"))}).run(tmp_path)

        class Others(Blocks):
            def read(self, index):
                example = super().read(index)
                example.image.putpixel((0, 0), (1, 2, 3))
                return example

        plan = study(mixes=("synthetic",))
        for changed in ({"pool": Others()}, {"test": Others(3, first=20)}):
            with pytest.raises(ValueError, match=r"other settings \(contents: "):
                replace(plan, **changed).run(tmp_path)
        assert len(list((tmp_path / "runs").iterdir())) == 1

    def test_bad_requests_are_found_before_anything_runs(self):
        for options, message in (
            ({"sizes": (2, 7)}, "k = 7 is out of range: the pool has 6 real pictures"),
            ({"sizes": (0,)}, "k = 0 is out of range"),
            ({"mixes": ("real", "mixed")}, "no mix 'mixed': choose of real, synthetic, both, then"),
            ({"synthetic": {}}, "'synthetic' needs a synthetic source: give one"),
            ({"seeds": ()}, "nothing to train"),
        ):
            with pytest.raises(ValueError, match=message):
                study(**options)

    def test_spread(self):
        assert spread([0.5]) == "0.500" and spread([]) == "" and spread([0.4, 0.6]) == "0.500 ± 0.141"


def write_set(root, data, masks="SegmentationClass"):
    """A folder as `ovamnb.synthesize` writes it."""
    from ovamnb.synthesize import folder as layout

    for example in data:
        layout.write_image(root, example.name, example.image)
        layout.write_labels(root, example.name, example.labels, masks)
    layout.write_lines(root / "classes.txt", data.classes)
    layout.write_lines(root / layout.VOC / "ImageSets/Segmentation/train.txt", data.names)
    return root


def write_real(root, count=8):
    """A folder of images and label maps, as of one's own."""
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for example in (data := Blocks(count)):
        example.image.save(root / "images" / f"{example.name}.png")
        Image.fromarray(example.labels).save(root / "labels" / f"{example.name}.png")
    (root / "classes.txt").write_text("car\ncat\n")
    (root / "validation.txt").write_text("\n".join(data.names[: count // 2]))
    (root / "test.txt").write_text("\n".join(data.names[count // 2 :]))
    return root


class TestCommand:
    def test_sources_by_name_and_place(self, tmp_path):
        write_set(tmp_path / "set", Blocks(2))
        write_set(tmp_path / "set", Blocks(2), "Oracle")
        assert source(str(tmp_path / "set"))[0] == "set"
        assert source(f"{tmp_path / 'set'}:Oracle")[0] == "set-Oracle"
        name, data = source(f"exact={tmp_path / 'set'}:Oracle")
        assert name == "exact" and data.masks == "Oracle" and len(data) == 2
        with pytest.raises(ValueError, match="'a/b' cannot name a source"):
            source(f"a/b={tmp_path / 'set'}")
        with pytest.raises(ValueError, match="but not 'real'"):
            source(f"real={tmp_path / 'set'}")

    def test_errors_name_the_remedy(self, tmp_path, capsys):
        good = str(write_set(tmp_path / "good", Blocks(2)))
        birds = Blocks(2)
        birds.classes = ("car", "bird")
        other = str(write_set(tmp_path / "other", birds))
        empty = str(write_set(tmp_path / "empty", Blocks(1)))
        (tmp_path / "empty/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text("")
        real = ["--real", "folder", "--root", str(write_real(tmp_path / "real")), "--sizes", "2"]
        for arguments, message in (
            (["--synthetic", str(tmp_path / "nowhere")], "nowhere' is not there: a synthetic set is what"),
            (["--synthetic", f"{good}:Oracle"], "the set has no such label maps"),
            (["--synthetic", other], "no class bird: it has car, cat"),
            (["--synthetic", empty], "has no pictures"),
            (["--synthetic", good, good], "Two sources go by 'good'"),
            (["--synthetic", good, "--sizes", "5"], "k = 5 is out of range: the pool has 4"),
            (["--synthetic", good, "--sizes", "0"], "k = 0 is out of range"),
            (["--synthetic", good, "--mixes", "reel"], "no mix 'reel'"),
            (["--synthetic", good, "--network", "vgg"], "no network 'vgg'"),
            (["--synthetic", good, "--seeds", "-1"], "Seeds count from 0, not -1"),
            ([], "needs a synthetic source"),
        ):
            with pytest.raises(SystemExit):
                command.main([*real, *arguments, "--out", str(tmp_path / "out")])
            assert message in " ".join(capsys.readouterr().err.split()), arguments
        assert not (tmp_path / "out").exists()
        (tmp_path / "good/VOCdevkit/VOC2012/SegmentationClass/blocks-1.png").unlink()
        with pytest.raises(SystemExit):
            command.main([*real, "--synthetic", good, "--out", str(tmp_path / "out")])
        assert "blocks-1.png' is not there" in " ".join(capsys.readouterr().err.split())
        for arguments, message in (
            (["--real", "voc", "--root", str(tmp_path)], "is not there"),
            (["--real", "emoji-sim"], "is a prompt without a picture"),
        ):
            with pytest.raises(SystemExit):
                command.main([*arguments, "--mixes", "real", "--out", str(tmp_path / "out")])
            assert message in " ".join(capsys.readouterr().err.split())

    @pytest.mark.slow
    def test_two_processes_find_what_one_finds(self, tmp_path):
        arguments = ["--real", "folder", "--root", str(write_real(tmp_path / "real"))]
        arguments += ["--synthetic", str(write_set(tmp_path / "set", Blocks(2, ("cat",), first=50)))]
        arguments += ["--sizes", "3", "--seeds", "0", "--steps", "2", "--batch", "2", "--size", "32", "48"]
        arguments += ["--device", "cpu", "--quiet"]
        said = tmp_path / "said"
        two = [*arguments, "--out", str(tmp_path / "two")]
        assert ended(started("ovamnb.downstream", two, said, count=2)) == [0, 0], said.read_text()
        assert said.read_text().count("source  mix") == 1, said.read_text()
        command.main([*arguments, "--out", str(tmp_path / "one"), "--csv", str(tmp_path / "csv")])
        for name in ("scores.csv", "classes.csv"):
            assert (tmp_path / "csv" / name).read_text() == (tmp_path / "two" / name).read_text()
        lines = (line for line in (tmp_path / "csv/scores.csv").open() if not line.startswith("#"))
        assert len(list(csv.DictReader(lines))) == 4
