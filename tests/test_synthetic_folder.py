"""The folder of a synthetic set: what is written, what reads it back, and what is refused."""

import errno
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ovamnb.data.on_disk import voc_palette
from ovamnb.plumbing.files import clear_partials
from ovamnb.synthesize.folder import (
    VOC,
    LabelledFolder,
    image_path,
    labels_path,
    read_record,
    read_records,
    record_path,
    write_image,
    write_labels,
    write_lines,
)
from ovamnb.synthesize.guards import explained, require_disk

NAMES = ("cat-00000", "train-00000")
LISTS = VOC / "ImageSets" / "Segmentation"


def picture(seed):
    """(h, w) = (12, 20): not square."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8))


def labels(seed):
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (12, 20))


def record(name):
    return {
        "name": name,
        "prompt": f"a {name}",
        "seed": 1,
        "classes": ["cat"],
        "areas": [0.1],
        "scores": [0.2],
    }


@pytest.fixture
def root(tmp_path):
    for i, name in enumerate(NAMES):
        write_image(tmp_path, name, picture(i))
        write_labels(tmp_path, name, labels(i))
        write_lines(tmp_path / record_path(name), [json.dumps(record(name))])
    write_labels(tmp_path, NAMES[0], labels(7), "SegmentationClass-daam")
    write_lines(tmp_path / "classes.txt", ["cat", "potted plant"])
    write_lines(tmp_path / LISTS / "train.txt", NAMES[:1])
    return tmp_path


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


class TestWriting:
    def test_the_palette_is_vocs(self):
        colours = np.reshape(voc_palette(), (256, 3)).tolist()
        assert colours[:8] == [
            *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]),
            *([0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128]),
        ]
        assert colours[8] == [64, 0, 0] and colours[20] == [0, 64, 128] and colours[255] == [224, 224, 192]
        assert len({tuple(colour) for colour in colours}) == 256

    def test_label_maps_are_seen_in_these_colours(self, root):
        with Image.open(root / labels_path(NAMES[0])) as image:
            assert image.mode == "P"
            seen = np.asarray(image.convert("RGB"))
        assert np.array_equal(seen, np.reshape(voc_palette(), (256, 3))[labels(0)])

    @pytest.mark.parametrize("links", [True, False])
    def test_a_picture_has_vocs_name_too(self, tmp_path, monkeypatch, links):
        def none(*paths):
            raise OSError(errno.EPERM, "no links here")

        if not links:
            monkeypatch.setattr(os, "link", none)
        for seed in (0, 1):  # a second one takes the first one's place under both names
            write_image(tmp_path, "a", picture(seed))
            path = tmp_path / image_path("a")
            assert path.read_bytes() == path.with_suffix(".jpg").read_bytes()
            with Image.open(path.with_suffix(".jpg")) as image:
                assert image.format == "PNG" and np.array_equal(image, picture(seed))
        assert files(tmp_path) == [
            image_path("a").with_suffix(f".{end}").as_posix() for end in ("jpg", "png")
        ]

    def test_an_interrupted_write_leaves_nothing(self, root, monkeypatch):
        there = {name: (root / name).read_bytes() for name in files(root)}

        def half(self, path, **options):
            path.write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(Image.Image, "save", half)
        for name in (NAMES[0], "new"):  # in the place of another, and where there was none
            with pytest.raises(KeyboardInterrupt):
                write_image(root, name, picture(5))
            with pytest.raises(KeyboardInterrupt):
                write_labels(root, name, labels(5))
        with pytest.raises(UnicodeEncodeError):
            write_lines(root / "classes.txt", ["cat", "\ud800"])
        assert {name: (root / name).read_bytes() for name in files(root)} == there

    def test_leftovers_are_removed_and_never_read(self, root):
        there = files(root)
        for path in (image_path("a.1"), labels_path("a.1"), record_path("a"), record_path(NAMES[0])):
            shutil.copy(root / record_path(NAMES[0]), root / f"{path}.123.partial")
        mine = root / "film.partial"
        mine.touch()
        assert [found["name"] for found in read_records(root)] == [*NAMES]
        assert LabelledFolder(root, kept=False).names == NAMES
        clear_partials(root)
        assert mine.exists(), "nobody's leftover but its owner's"
        mine.unlink()
        assert files(root) == there


class TestReading:
    def test_what_was_written(self, root):
        data = LabelledFolder(root, kept=False)
        assert data.names == NAMES and data.classes == ("cat", "potted plant") and len(data) == 2
        for i, example in enumerate(data):
            assert np.array_equal(example.labels, labels(i)) and 255 in example.labels
            assert np.array_equal(example.image, picture(i))

    def test_what_was_kept_and_other_masks(self, root):
        assert LabelledFolder(root).names == NAMES[:1]
        assert np.array_equal(LabelledFolder(str(root), "SegmentationClass-daam")[0].labels, labels(7))

    def test_errors_name_the_remedy(self, root):
        with pytest.raises(
            FileNotFoundError, match=r"-daam/train-00000.png' is not there: .* --out DIR` writes"
        ):
            LabelledFolder(root, "SegmentationClass-daam", kept=False)[1]
        with pytest.raises(FileNotFoundError, match=r"-ovam' is not there: the set has no such label maps"):
            LabelledFolder(root, "SegmentationClass-ovam")
        (root / image_path(NAMES[0])).unlink()
        with pytest.raises(FileNotFoundError, match=r"cat-00000.png' is not there: .* --out DIR` writes"):
            LabelledFolder(root)[0]
        write_labels(root, NAMES[1], np.full((12, 20), 3, np.uint8))
        with pytest.raises(ValueError, match=r"train-00000.png': the labels \[3\] mean nothing"):
            LabelledFolder(root, kept=False)[0]
        for path in (LISTS / "train.txt", "classes.txt", ""):
            shutil.rmtree(root) if not path else (root / path).unlink()
            with pytest.raises(FileNotFoundError, match=r"' is not there: .* --out DIR` writes"):
                LabelledFolder(root)

    def test_a_picture_without_its_record_or_labels_is_not_there(self, root):
        path, whole = root / record_path(NAMES[0]), record(NAMES[0])
        for damaged in ("", "[]", json.dumps(whole)[:30], json.dumps({"name": "a"}), "\ud800"):
            path.write_bytes(damaged.encode("utf-16" if damaged > "~" else "utf-8", "surrogatepass"))
            assert read_record(root, NAMES[0]) is None
        path.write_text(json.dumps(whole))
        assert read_record(root, NAMES[0]) == whole and read_record(root, "dog-00000") is None
        (root / labels_path(NAMES[0])).unlink()
        (root / image_path(NAMES[1])).unlink()
        assert not list(read_records(root))


class TestGuards:
    def test_the_disk_is_looked_at_first(self, tmp_path, monkeypatch):
        def left(mebibytes):
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=mebibytes * 2**20))

        left(101)
        require_disk(tmp_path, 100, (512, 512))
        with pytest.raises(OSError, match=r"100 pictures need up to 126 MiB, .* has 101 MiB left: make room"):
            require_disk(tmp_path, 100, (512, 512), maps=2)
        left(0)
        require_disk(tmp_path, 0, (512, 512))
        with pytest.raises(OSError) as caught:
            require_disk(tmp_path, 1, (8, 8))
        assert caught.value.errno == errno.ENOSPC

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk(self, tmp_path, number):
        with pytest.raises(
            OSError, match=r"is full: make room; what was drawn is kept, and the same command"
        ):
            with explained(4, tmp_path):
                raise OSError(number, os.strerror(number))

    def test_too_little_memory(self, tmp_path):
        for batch, remedy in ((4, "try --batch 2"), (1, "try a smaller picture or a larger device")):
            with pytest.raises(RuntimeError, match=f"for {batch} pictures at once: {remedy}; what was drawn"):
                with explained(batch, tmp_path):
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    def test_other_errors_stay_as_they_are(self, tmp_path):
        for error in (OSError(errno.EACCES, "denied"), RuntimeError("shapes differ"), KeyError("cat")):
            with pytest.raises(type(error)) as caught:
                with explained(4, tmp_path):
                    raise error
            assert caught.value is error
