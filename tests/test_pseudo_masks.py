"""Label maps from classes alone: what is counted, what is written, what is refused, and where it goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_fixtures import bundled_pipe, ended, loaded_once, started  # noqa: F401

from ovamnb import evidence
from ovamnb.data import load_data
from ovamnb.data.base import Data, Example
from ovamnb.data.on_disk import read_labels, voc_palette
from ovamnb.data.pascal import VOC_CLASSES
from ovamnb.emoji.scenes import scene
from ovamnb.evaluation import pseudo_masks
from ovamnb.evaluation.background import KEYS, SWEPT, Tally, chosen, label_map, swept, table
from ovamnb.evaluation.metrics import confusion, mean_iou
from ovamnb.evaluation.pseudo_masks import PseudoMasks
from ovamnb.evaluation.store import read_counts, write
from ovamnb.plumbing.command import WRONG
from ovamnb.recipe import SegmentRecipe

CAT, DOG, CAR = (VOC_CLASSES.index(name) + 1 for name in ("cat", "dog", "car"))


class TestCounts:
    scores = torch.tensor([[[0.9, 0.2, 0.6, 0.1]], [[0.1, 0.3, 0.7, 0.05]]])
    truth = torch.tensor([[8, 0, 12, 255]])

    def test_by_hand(self):
        assert label_map(self.scores, [8, 3], 0.5).tolist() == [[8, 0, 3, 0]]
        assert label_map(torch.zeros(0, 1, 4), [], 0.5).tolist() == [[0, 0, 0, 0]]
        found = swept(self.scores, [8, 3], self.truth, 255, also=0.65)
        assert found["labels"] == [0, 3, 8, 12], "asked for or there"
        k = found["at"].index(0.65)
        assert found["both"][k] == [1, 0, 1, 0] and found["either"][k] == [1, 1, 1, 1]

    @pytest.mark.parametrize("truth", [truth, torch.tensor([[255, 255, 255, 255]]), torch.zeros(1, 4).long()])
    def test_as_the_other_tables_count(self, truth, tmp_path):
        paths = []
        for seed in range(3):
            scores = torch.rand(2, 1, 4, generator=torch.Generator().manual_seed(seed))
            paths.append(tmp_path / f"{seed}.json")
            write(paths[-1], {"name": "", "mark": 0, **swept(scores, [8, 3], truth, 255)})
        tally = Tally.of(paths, 20)
        assert tally.pictures == 3
        for background in SWEPT:
            total = sum(
                confusion(
                    label_map(
                        torch.rand(2, 1, 4, generator=torch.Generator().manual_seed(s)), [8, 3], background
                    ),
                    truth,
                    20,
                )
                for s in range(3)
            )
            expected = mean_iou(total, background=True), mean_iou(total)
            assert tally.miou(background) == pytest.approx(expected, nan_ok=True)
        best = tally.miou(tally.best())[0]
        assert not any(tally.miou(background)[0] > best for background in SWEPT)

    def test_hundreds_of_classes(self):
        truth = torch.arange(0, 400)[None]
        scores = torch.ones(400, 1, 400) * torch.eye(400)[:, None]
        found = swept(scores[1:], [*range(1, 400)], truth, 65535)
        assert found["both"][0] == found["either"][0] == [1] * 400, "255 is a class like others"

    def test_the_papers_sweep_is_a_part(self):
        assert {0.3, 0.5, 0.74} <= {*SWEPT} and len(SWEPT) == 41

    def test_a_background_score_and_how_it_was_chosen(self):
        none = Tally({}, 0)
        assert chosen(none, 0.33, 0.5) == (0.33, "given")
        assert chosen(none, None, 0.5)[0] == 0.5 and "no held-out picture" in chosen(none, None, 0.5)[1]
        one = torch.tensor([8, 2]), torch.tensor([10, 4])
        low = torch.tensor([1, 1]), torch.tensor([10, 4])
        held_out = Tally({at: one if at == 0.62 else low for at in SWEPT}, 7)
        assert chosen(held_out, None, 0.5) == (0.62, "chosen on 7 held-out pictures")
        said = table(held_out, 0.5, "given")
        assert "0.175        0.250  given" in said and "0.650        0.500  oracle: the best" in said
        assert "no mIoU" in table(none, 0.5, "given")

    def test_a_missing_count_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"a.json' is missing or damaged"):
            Tally.of([tmp_path / "a.json"], 2)


class Few(Data):
    """Pictures of cats and dogs, of different sizes; the last has no labels, and the first no class."""

    classes, names = ("cat", "dog"), ("a", "part/b", "c")

    def read(self, index):
        rng = np.random.default_rng(index)
        labels = np.zeros((16, 24 + index), np.uint8)
        labels[4:12, 4:12] = index
        picture = Image.fromarray(rng.integers(0, 256, (16, 24 + index, 3), np.uint8))
        return Example(self.names[index], labels, picture)

    def labelled(self, index):
        return index < 2


@pytest.fixture
def masks(pipe):
    return PseudoMasks(pipe, SegmentRecipe(template="{}"), quiet=True)


class TestMasks:
    def test_each_picture_has_one_of_its_own_classes_and_size(self, masks, tmp_path):
        data = Few()
        masks.label(data, range(3), tmp_path, 0.4)
        for index, name in enumerate(data.names):
            found = read_labels(tmp_path / f"SegmentationClass/{name}.png", "")
            assert found.shape == (16, 24 + index) and {*np.unique(found)} <= {0, *data.shown(index)}
            counts = read_counts(tmp_path / f"counts/{name}.json", KEYS)
            assert counts["labels"] == [[0], [0, 1], []][index], "the last has no truth"
        with Image.open(tmp_path / "SegmentationClass/part/b.png") as image:
            assert image.mode == "P" and image.getpalette() == voc_palette()
        picture = data.picture(1)
        result = pseudo_masks.segment(masks.pipe, picture, ["cat"], template="{}", background=0.4)
        assert np.array_equal(read_labels(tmp_path / "SegmentationClass/part/b.png", ""), result.labels)

    def test_it_goes_on_where_it_stopped(self, masks, tmp_path, monkeypatch):
        masks.label(Few(), range(2), tmp_path, 0.4)
        asked, real = [], pseudo_masks.segment
        monkeypatch.setattr(
            pseudo_masks, "segment", lambda *given, **more: asked.append(given[2]) or real(*given, **more)
        )
        masks.label(Few(), range(3), tmp_path, 0.4)
        assert asked == [["dog"]], "only the one that was missing"
        (tmp_path / "counts/part/b.json").write_text("{")
        (tmp_path / "SegmentationClass/c.png").unlink()
        masks.label(Few(), range(3), tmp_path, 0.4)
        assert asked == [["dog"], ["cat"], ["dog"]], "half a file, and a lost one"

        class Other(Few):
            def read(self, index):
                example = super().read(index)
                return Example(example.name, example.labels, example.image.rotate(180))

        masks.label(Other(), [1], tmp_path, 0.4)
        assert asked[3:] == [["cat"]], "another picture under the same name"
        assert not list(tmp_path.rglob("*.partial"))

    def test_processes_share_the_pictures(self, masks, tmp_path, monkeypatch):
        for rank in (0, 1):
            state = type("State", (), {"process_index": rank, "num_processes": 2, "is_main_process": False})
            monkeypatch.setattr(pseudo_masks, "PartialState", state)
            masks.label(Few(), range(3), tmp_path, 0.4)
            assert len(list(tmp_path.rglob("*.png"))) == (2, 3)[rank]

    def test_hundreds_of_classes_have_sixteen_bits(self, masks, tmp_path):
        class Wide(Few):
            classes = (*(f"word {k}" for k in range(298)), "dog", "cat")

            def shown(self, index):
                return [300]

        masks.label(Wide(), [2], tmp_path, 0.0)
        with Image.open(tmp_path / "SegmentationClass/c.png") as image:
            assert image.mode == "I;16" and {*np.unique(np.array(image))} <= {0, 300}
            assert (np.array(image) == 300).any()

    def test_what_the_model_draws_is_no_picture(self, masks, tmp_path):
        with pytest.raises(ValueError, match=r"no picture but a prompt: .*`python -m ovamnb.synthesize`"):
            masks.label(load_data("emoji-sim"), [0], tmp_path, 0.4)

    def test_a_word_that_the_model_lacks(self):
        masks = PseudoMasks(bundled_pipe(), SegmentRecipe())
        with pytest.raises(ValueError, match="no word 'quark'"):
            masks.require_words(type("Strange", (Few,), {"classes": ("cat", "quark")})())

    def test_settings_tell_what_differs(self, pipe):
        known = PseudoMasks(pipe, SegmentRecipe()).settings(Few())
        assert json.loads(json.dumps(known)) == known
        for other in (
            PseudoMasks(pipe, SegmentRecipe(article=True)),
            PseudoMasks(pipe, SegmentRecipe(), caption="on grass"),
            PseudoMasks(pipe, SegmentRecipe(), caption=lambda image, start: ""),
            PseudoMasks(pipe, SegmentRecipe(), seed=1),
        ):
            assert other.settings(Few()) != known
        assert PseudoMasks(pipe, SegmentRecipe(background=0.1)).settings(Few()) == known


@pytest.fixture
def voc(tmp_path):
    """VOC in small: two training pictures, one of them outlined, and two held out; the annotations say more
    than the outlines do."""
    year = tmp_path / "VOCdevkit/VOC2012"
    shows = {"t_1": ("cat", "car"), "t_2": ("dog",), "v_1": ("cat", "dog"), "v_2": ("car", "dog")}
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (year / folder).mkdir(parents=True)
    for seed, (name, concepts) in enumerate(shows.items()):
        each = scene(seed, size=(96, 128), concepts=list(concepts), plain=True)
        Image.fromarray(each.image).save(year / f"JPEGImages/{name}.jpg")
        labels = np.zeros((96, 128), np.uint8)
        for concept in concepts:
            labels[np.asarray(each.mask(concept))] = VOC_CLASSES.index(concept) + 1
        if name != "t_2":
            Image.fromarray(labels).save(year / f"SegmentationClass/{name}.png")
        things = "".join(f"<object><name>{concept}</name></object>" for concept in concepts)
        (year / f"Annotations/{name}.xml").write_text(f"<annotation>{things}</annotation>")
    (year / "ImageSets/Segmentation/train.txt").write_text("t_1\nt_2\n")
    (year / "ImageSets/Segmentation/val.txt").write_text("v_1\nv_2\n")
    return tmp_path / "VOCdevkit"


@pytest.mark.usefixtures("loaded_once")
class TestCommand:
    def test_voc_from_image_level_labels(self, voc, tmp_path, capsys):
        command = ["--data", "voc", "--root", str(voc), "--device", "cpu", "--out", str(tmp_path / "out")]
        pseudo_masks.main(command)
        said = capsys.readouterr().out
        assert "2 label maps in" in said and "mIoU of the 1 that have a truth" in said
        assert "chosen on 2 held-out pictures" in said and "oracle: the best on this very truth" in said
        assert "own recipe with no captions" in said
        out = tmp_path / "out"
        assert (out / "ImageSets/Segmentation/train.txt").read_text() == "t_1\nt_2\n"
        assert (out / "classes.txt").read_text().splitlines() == list(VOC_CLASSES)
        found = {p.stem: {*np.unique(read_labels(p, ""))} for p in out.glob("SegmentationClass/*.png")}
        assert found == {"t_1": {0, CAT, CAR}, "t_2": {0, DOG}}
        assert {p.stem for p in out.glob("held-out/*.json")} == {"v_1", "v_2"}
        before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
        pseudo_masks.main(command)
        assert capsys.readouterr().out == said
        assert {p: p.stat().st_mtime_ns for p in out.rglob("*.png")} == before
        with pytest.raises(SystemExit):
            pseudo_masks.main([*command, "--background", "0.123"])
        assert "other settings (background: " in capsys.readouterr().err

    def test_a_list_of_its_own_and_a_given_score(self, voc, tmp_path, capsys):
        (tmp_path / "aug.txt").write_text("t_2\nv_2\n")
        out = tmp_path / "out"
        command = [
            "--data",
            "voc",
            "--root",
            str(voc),
            "--device",
            "cpu",
            "--list",
            str(tmp_path / "aug.txt"),
        ]
        pseudo_masks.main([*command, "--background", "0.45", "--out", str(out)])
        said = capsys.readouterr().out
        assert {p.stem for p in out.glob("SegmentationClass/*")} == {"t_2", "v_2"}
        assert not (out / "held-out").exists() and "0.45" in said and "  given" in said
        given = pseudo_masks.parser_of().parse_args(command)
        data, ours, other, free = pseudo_masks.pictures_for(given)
        assert [data.names[k] for k in ours] == ["t_2", "v_2"]
        assert [other.names[k] for k in free] == ["v_1"], "what is labelled is not held out"

    def test_other_models_get_the_papers_way(self, voc, tmp_path, monkeypatch, capsys):
        heard = []

        class Said:
            def __call__(self, image, start):
                heard.append(start)
                return "sleeping"

        monkeypatch.setattr(evidence.BlipCaptioner, "load", lambda device: Said())
        command = [
            "--data",
            "voc",
            "--root",
            str(voc),
            "--device",
            "cpu",
            "--background",
            "0.5",
            "--limit",
            "1",
        ]
        pseudo_masks.main([*command, "--model", "another", "--out", str(tmp_path / "out")])
        assert "by the paper recipe with BLIP's captions" in capsys.readouterr().out
        assert heard == ["a photograph of dog"]
        settings = json.loads((tmp_path / "out/settings.json").read_text())
        assert settings["caption"] == "Said" and settings["recipe"]["size"] == "native"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--data", "emoji-sim"], "no picture but a prompt"),
            (["--list", "aug.txt"], "--list names photographs in VOC's folder"),
            (["--background", "40"], "--background is a score: a number from 0 to 1"),
            (["--data", "voc", "--root", "nowhere"], "nowhere' is not there"),
            (["--device", "quantum"], "Unknown device"),
            (["--out", "file"], "where a folder is needed"),
        ],
    )
    def test_what_is_wrong_is_said_before_anything_is_done(
        self, arguments, message, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        Path("file").touch()
        with pytest.raises(SystemExit) as left:
            pseudo_masks.main(arguments)
        said = capsys.readouterr().err
        assert left.value.code == WRONG and message in said and said.count("\n") == 1
        assert said.startswith("python -m ovamnb.evaluation.pseudo_masks: ")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tmp_path):
    options = ["--limit", "3", "--device", "cpu"]
    said = tmp_path / "said"
    for count in (1, 2):
        command = [*options, "--out", str(tmp_path / str(count))]
        done = started("ovamnb.evaluation.pseudo_masks", command, said, count=count)
        assert ended(done) == [0] * count, said.read_text()
    assert said.read_text().count("label maps in") == 2, "one of them prints"
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "12"
    )
    assert one == two and len(one) > 9
