"""A synthetic set is written as it says, read by others, and goes on where it was killed."""

import errno
import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler
from PIL import Image
from shared_fixtures import bundled_pipe, ended, started, wait_until

from ovamnb.data.emoji_sets import GUIDANCE
from ovamnb.plumbing.english import mentions
from ovamnb.synthesize import __main__ as command
from ovamnb.synthesize import folder as layout
from ovamnb.synthesize import synthesis as running
from ovamnb.synthesize.folder import VOC, LabelledFolder, image_path, labels_path, read_records, record_path
from ovamnb.synthesize.lists import finish
from ovamnb.synthesize.prompts import from_templates
from ovamnb.synthesize.synthesis import Synthesis

CLASSES = ("cat", "train")  # "train" is the name of a split, too
TEMPLATES = ("a photograph of {}", "{} and {}")
OPTIONS = [
    *("--classes", *CLASSES, "--templates", *TEMPLATES, "--batch", "2", "--steps", "2", "--size", "64", "64"),
    *("--masks", "ovam+completion:token", "--also", "daam", "--thresholds", "0.3", "0.6", "--device", "cpu"),
]
EVERYTHING = ["--areas", "0", "100", "--least-score", "0"]


def synthesize(folder, *more, n=4):
    command.main([*OPTIONS, *EVERYTHING, *more, "--n", str(n), "--out", str(folder)])


def bytes_of(folder):
    """{path: content} of all that a reader of the set looks at."""
    kinds = ("*.png", "*.jpg", "*.jsonl", "*.txt")
    found = (path for kind in kinds for path in folder.rglob(kind))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def times_of(folder, names):
    """When the pictures of these names were written, and their label maps."""
    paths = [path(name) for name in names for path in (image_path, labels_path, record_path)]
    return {path: (folder / path).stat().st_mtime_ns for path in paths}


def drawn(folder):
    return sorted(record["name"] for record in read_records(folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eight pictures that were drawn at once; nobody writes to them."""
    folder = tmp_path_factory.mktemp("made") / "set"
    synthesize(folder)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


@pytest.fixture
def pipe():
    return bundled_pipe()


def plain(pipe, classes=CLASSES, score=lambda image, classes: [0.5] * len(classes), **options):
    return Synthesis(
        pipe, classes, score, **{"row": "ovam", "steps": 1, "size": (64, 64), "quiet": True} | options
    )


class TestWhatIsWritten:
    def test_files(self, made):
        plans = list(from_templates(CLASSES, 4, TEMPLATES))
        names = sorted(plan.name for plan in plans)
        assert drawn(made) == names and len(names) == 8
        for masks in ("SegmentationClass", "SegmentationClass-daam"):
            assert sorted(path.stem for path in (made / VOC / masks).iterdir()) == names
        images = sorted(path.name for path in (made / image_path("")).parent.iterdir())
        assert images == sorted(f"{name}.{end}" for name in names for end in ("jpg", "png"))
        assert (made / "classes.txt").read_text() == "cat\ntrain\n"
        assert LabelledFolder(made).names == tuple(plan.name for plan in plans)
        assert not list(made.rglob("*.partial")) and (made / "dropped.jsonl").read_text() == ""

    def test_records_agree_with_plans_and_label_maps(self, made):
        plans = {plan.name: plan for plan in from_templates(CLASSES, 4, TEMPLATES)}
        several = 0
        for record in read_records(made):
            plan = plans[record["name"]]
            assert (record["prompt"], record["seed"]) == (plan.prompt, plan.seed)
            assert tuple(record["classes"]) == plan.classes
            assert all(mentions(record["prompt"], name) for name in record["classes"])
            for masks in ("SegmentationClass", "SegmentationClass-daam"):
                with Image.open(made / labels_path(plan.name, masks)) as image:
                    labels = np.asarray(image)
                own = [CLASSES.index(name) + 1 for name in plan.classes]
                assert labels.shape == (64, 64) and {*np.unique(labels)} <= {0, 255, *own}
                if masks == "SegmentationClass":
                    shares = [np.mean(labels == label) for label in (*own, 255)]
                    assert [*record["areas"], record["ignored"]] == pytest.approx(shares, abs=1e-6)
                    several += len(np.unique(labels)) > 2
            assert len(record["scores"]) == len(own) and all(-1 <= value <= 1 for value in record["scores"])
        assert several > 4, "objects, background and what is uncertain"

    def test_a_line_of_metadata_for_each_picture(self, made):
        lines = [json.loads(line) for line in (made / "metadata.jsonl").read_text().splitlines()]
        assert [line["name"] for line in lines] == [*LabelledFolder(made).names]
        for line in lines:
            assert (made / line["file_name"]).is_file() and (made / line["labels_file_name"]).is_file()
            assert {"prompt", "seed", "classes", "areas", "scores", "weights", "versions"} <= line.keys()
            assert line["model"] == "bundled" and line["versions"]["torch"] == torch.__version__

    def test_recording_leaves_the_pictures_as_they_are(self, made, pipe):
        plans = list(from_templates(CLASSES, 4, TEMPLATES))[2:4]
        images = pipe(
            [plan.prompt for plan in plans],
            height=64,
            width=64,
            num_inference_steps=2,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(plan.seed) for plan in plans],
        ).images
        for plan, image in zip(plans, images, strict=True):
            with Image.open(made / image_path(plan.name)) as stored:
                assert np.array_equal(stored, image)

    def test_filters_change_the_lists_alone(self, copy, made, capsys):
        synthesize(copy, "--least-score", "60")
        kept, dropped = (
            [json.loads(line) for line in (copy / name).read_text().splitlines()]
            for name in ("metadata.jsonl", "dropped.jsonl")
        )
        assert kept and dropped and len(kept) + len(dropped) == 8
        assert all(line["dropped_by"] == ["score"] for line in dropped)
        assert LabelledFolder(copy).names == tuple(line["name"] for line in kept)
        assert len(LabelledFolder(copy, kept=False)) == 8
        said = capsys.readouterr().out
        assert f"score    keeps {len(kept) / 8:6.1%}" in said and f"{len(kept)} of 8 pictures" in said
        assert times_of(copy, drawn(made)) == times_of(made, drawn(made)), "nothing is drawn for that"


class TestOtherReaders:
    @pytest.mark.slow
    def test_datasets(self, copy, tmp_path):
        pytest.importorskip("datasets", reason="the extra `readers` brings it")
        synthesize(copy, "--least-score", "60")
        code = (
            "import datasets, hashlib, json, numpy, sys\n"
            "rows = datasets.load_dataset('imagefolder', data_files=sys.argv[1])['train']\n"
            "mark = lambda image: hashlib.sha1(numpy.asarray(image).tobytes()).hexdigest()\n"
            "rows = [row | {key: mark(row[key]) for key in ('image', 'labels')} for row in rows]\n"
            "print(json.dumps(rows))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(copy / "metadata.jsonl")],
            env=os.environ | {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        rows, ours = json.loads(done.stdout), LabelledFolder(copy)
        assert len(rows) == len(ours) < 8
        lines = [json.loads(line) for line in (copy / "metadata.jsonl").read_text().splitlines()]
        for row, line, example in zip(rows, lines, ours, strict=True):
            for key, array in (("image", example.image), ("labels", example.labels)):
                assert row.pop(key) == hashlib.sha1(np.asarray(array).tobytes()).hexdigest()
            assert row == {key: value for key, value in line.items() if not key.endswith("file_name")}

    def test_torchvision(self, made):
        try:
            from torchvision.datasets import VOCSegmentation
        except (ImportError, RuntimeError) as error:  # RuntimeError: it is built for another torch
            pytest.skip(f"no torchvision: {error}")
        ours, theirs = LabelledFolder(made), VOCSegmentation(made, year="2012", image_set="train")
        assert len(ours) == len(theirs)
        for example, (image, target) in zip(ours, theirs, strict=True):
            assert np.array_equal(example.image, image) and np.array_equal(example.labels, target)


class TestGoingOn:
    @pytest.mark.slow
    def test_after_a_kill_nothing_is_drawn_twice(self, made, tmp_path):
        folder = tmp_path / "set"
        arguments = [*OPTIONS, *EVERYTHING, "--n", "4", "--out", str(folder)]
        [process] = started("ovamnb.synthesize", arguments, tmp_path / "said")
        wait_until(lambda: drawn(folder), [process])
        process.kill()
        assert ended([process]) == [-signal.SIGKILL], (tmp_path / "said").read_text()
        done = drawn(folder)
        before = times_of(folder, done)
        assert 0 < len(done) < 8
        (folder / f"{labels_path('train-00003')}.{process.pid}.partial").write_bytes(b"half")
        synthesize(folder)
        assert times_of(folder, done) == before
        assert bytes_of(folder) == bytes_of(made) and not list(folder.rglob("*.partial"))

    @pytest.mark.slow
    def test_two_processes_one_of_them_killed_draw_what_one_draws(self, made, tmp_path):
        folder, said = tmp_path / "set", tmp_path / "said"
        arguments = [*OPTIONS, *EVERYTHING, "--n", "4", "--out", str(folder)]
        broken = started("ovamnb.synthesize", arguments, said, count=2)
        wait_until(lambda: drawn(folder), broken)
        broken[-1].kill()
        other, killed = ended(broken)
        assert killed == -signal.SIGKILL and other == 1, said.read_text()
        done = drawn(folder)
        before = times_of(folder, done)
        assert 0 < len(done) < 8 and not (folder / "metadata.jsonl").exists()
        assert ended(started("ovamnb.synthesize", arguments, said, count=2)) == [0, 0], said.read_text()
        assert times_of(folder, done) == before
        assert bytes_of(folder) == bytes_of(made) and not list(folder.rglob("*.partial"))

    def test_what_is_lost_is_noticed_and_drawn_again(self, copy, made):
        plans = list(from_templates(CLASSES, 4, TEMPLATES))
        (copy / image_path("train-00001")).unlink()
        (copy / record_path("cat-00002")).write_text('{"name": "cat-')
        with pytest.raises(
            RuntimeError, match=r"2 of 8 .* \('train-00001' is the first\), so a process died"
        ):
            finish(copy, plans)
        others = [name for name in drawn(made) if name not in ("train-00001", "cat-00002")]
        synthesize(copy)
        assert bytes_of(copy) == bytes_of(made) and times_of(copy, others) == times_of(made, others)

    def test_a_set_grows(self, copy, made):
        synthesize(copy, n=5)
        assert {*drawn(copy)} - {*drawn(made)} == {"cat-00004", "train-00004"}
        assert (
            LabelledFolder(copy).names[:8] == LabelledFolder(made).names and len(LabelledFolder(copy)) == 10
        )
        assert times_of(copy, drawn(made)) == times_of(made, drawn(made))
        synthesize(copy)
        assert bytes_of(copy).items() >= bytes_of(made).items(), "asked for fewer, it lists these alone"

    def test_a_full_disk_midway(self, made, tmp_path, monkeypatch, capsys):
        write, calls = layout.write_png, []

        def until_it_is_full(image, path):
            calls.append(path)
            if len(calls) == 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(image, path)

        monkeypatch.setattr(layout, "write_png", until_it_is_full)
        with pytest.raises(SystemExit) as ended:
            synthesize(tmp_path / "set", n=1)
        said = capsys.readouterr().err
        assert ended.value.code == 1 and "is full: make room; what was drawn is kept, and the same" in said
        assert drawn(tmp_path / "set") == ["cat-00000"]
        synthesize(tmp_path / "set", n=1)
        assert len(calls) == 5 + 3, "a picture and two label maps"
        found, whole = bytes_of(tmp_path / "set"), bytes_of(made)
        assert all(found[path] == whole[path] for path in found if path.endswith("g"))

    def test_an_interruption_says_how_to_go_on(self, tmp_path, monkeypatch, capsys):
        def stop(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(Synthesis, "make", stop)
        with pytest.raises(SystemExit) as ended:
            synthesize(tmp_path / "set")
        assert ended.value.code == 130 and "the same command goes on from there" in capsys.readouterr().err

    def test_one_batch_is_remembered_at_a_time(self, pipe, tmp_path, monkeypatch):
        begun, alive, recording = [], [], running.record

        @contextmanager
        def watched(*args, **options):
            alive.append(sum(trace() is not None for trace in begun))
            with recording(*args, **options) as trace:
                begun.append(weakref.ref(trace))
                yield trace

        monkeypatch.setattr(running, "record", watched)
        gc.disable()  # nothing waits for it, either
        try:
            plain(pipe, batch=2).run(list(from_templates(CLASSES, 3)), tmp_path)
        finally:
            gc.enable()
        assert alive == [0, 0, 0] and begun[-1]() is None


def test_attn2mask_gets_its_middle_step(pipe, tmp_path):
    """Few steps are recorded, and PNDM passes the UNet once more than there are steps."""
    pytest.importorskip("pydensecrf", reason="no dense CRF here")
    scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    pipe = type(pipe)(**pipe.components | {"scheduler": scheduler})
    pipe.set_progress_bar_config(disable=True)
    plain(pipe, row="attn2mask", steps=5, recorded=1).run(list(from_templates(CLASSES, 1)), tmp_path)
    assert len(drawn(tmp_path)) == 2
