"""Data sets: small folders in the true formats, what is read from them, and what is said of the damaged."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from ovamnb.data import DATA, load_data
from ovamnb.data.base import Data, Example, check, require_names, split_by_name
from ovamnb.data.coco import COCO_CLASSES
from ovamnb.data.on_disk import dtype_of, ignored_in, label_image, read_labels, voc_palette, write_png
from ovamnb.data.pascal import CONTEXT_CLASSES, VOC_CLASSES

SIZE = (12, 20)  # (h, w): not square


def labels(*boxes, size=SIZE):
    """A label map from (top, left, bottom, right, label), painted in order."""
    painted = np.zeros(size, np.uint8)
    for top, left, bottom, right, label in boxes:
        painted[top:bottom, left:right] = label
    return painted


def put(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette:  # colours that are no labels: only the index counts
        picture = Image.fromarray(array, "L").convert("P")
        picture.putdata(array.ravel().tolist())
        picture.putpalette([(7 * i + c) % 256 for i in range(256) for c in (128, 40, 3)])
    picture.save(path)


def photograph(size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


PASCAL = {
    "voc": ("VOCdevkit/VOC2012", "Segmentation", "SegmentationClass", True),
    "context": ("VOCdevkit/VOC2010", "SegmentationContext", "SegmentationClassContext", False),
}
TRUTH = labels((2, 3, 8, 9, 15), (7, 3, 8, 9, 255), (0, 15, 4, 20, 20))


@pytest.fixture(params=PASCAL)
def pascal(request, tmp_path):
    """(name, root, the year's folder, the folder of labels)."""
    folder, lists, maps, palette = PASCAL[request.param]
    year = tmp_path / folder
    write(year / f"ImageSets/{lists}/train.txt", "2007_000032")
    write(year / f"ImageSets/{lists}/val.txt", "2007_000033", "2007_000061")
    for name in ("2007_000032", "2007_000033", "2007_000061"):
        put(year / f"JPEGImages/{name}.jpg", photograph())
        put(year / maps / f"{name}.png", TRUTH, palette)
    return request.param, tmp_path, year, year / maps


class TestPascal:
    def test_photographs_and_labels(self, pascal):
        name, root, year, _ = pascal
        data = load_data(name, split="test", root=root)
        assert data.names == ("2007_000033", "2007_000061") and len(data) == 2
        assert load_data(name, split="validation", root=str(root)).names == ("2007_000032",)
        example = data[0]
        assert example.image.size == SIZE[::-1] and example.image.mode == "RGB"
        assert np.array_equal(example.labels, TRUTH) and example.labels.dtype == np.uint8
        assert example.present() == [15, 20] and example.prompt is None
        for other in (year, year.parent):  # the folder itself, or the one around it
            assert load_data(name, root=other).names == data.names

    def test_the_default_place(self, pascal, monkeypatch):
        name, root, *_ = pascal
        (root / "data").mkdir()
        monkeypatch.chdir(root)
        with pytest.raises(FileNotFoundError, match=rf"{name}' is not there: unpack http"):
            load_data(name)
        (root / "data" / name).mkdir()
        (root / "VOCdevkit").rename(root / "data" / name / "VOCdevkit")
        assert len(load_data(name)) == 2

    def test_what_is_missing(self, pascal):
        name, root, year, maps = pascal
        with pytest.raises(FileNotFoundError, match=r"nowhere' is not there: unpack http"):
            load_data(name, root=root / "nowhere")
        (maps / "2007_000033.png").unlink()
        (year / "JPEGImages/2007_000061.jpg").unlink()
        data = load_data(name, root=root)  # the list alone opens no image
        for index, file in enumerate(("2007_000033.png", "2007_000061.jpg")):
            with pytest.raises(FileNotFoundError, match=rf"{file}' is not there: '.*val.txt' names it"):
                data[index]
        next(year.glob("ImageSets/*/val.txt")).unlink()
        with pytest.raises(FileNotFoundError, match=r"val.txt' is not there"):
            load_data(name, root=root)

    def test_what_is_damaged(self, pascal):
        name, root, year, maps = pascal
        data = load_data(name, root=root)
        file = maps / "2007_000033.png"
        whole = file.read_bytes()
        for damaged in (b"no picture", whole[:60], whole[:-30]):
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"2007_000033.png' cannot be read .* unpack it anew"):
                data[0]
        put(file, photograph())
        with pytest.raises(ValueError, match=r"2007_000033.png' holds no labels but RGB"):
            data[0]
        put(file, TRUTH.T.copy())
        with pytest.raises(
            ValueError, match=r"2007_000033.png': the image has 12×20 pixels, its labels 20×12"
        ):
            data[0]
        put(file, labels((0, 0, 4, 4, 60)))
        with pytest.raises(
            ValueError, match=r"2007_000033.png': the labels \[60\] mean nothing: .* 1 to (20|59)"
        ):
            data[0]
        write(next(year.glob("ImageSets/*/val.txt")), "2007_000033", "2007_000033")
        with pytest.raises(ValueError, match=r"val.txt' names '2007_000033' more than once"):
            load_data(name, root=root)

    @pytest.mark.parametrize("pascal", ["voc"], indirect=True)
    def test_as_torchvision_reads_it(self, pascal):
        try:
            from torchvision.datasets import VOCSegmentation
        except (ImportError, RuntimeError) as error:  # RuntimeError: it is built for another torch
            pytest.skip(f"no torchvision: {error}")
        _, root, *_ = pascal
        ours, theirs = load_data("voc", root=root), VOCSegmentation(root, year="2012", image_set="val")
        assert len(ours) == len(theirs)
        for example, (image, target) in zip(ours, theirs, strict=True):
            assert np.array_equal(example.image, image.convert("RGB"))
            assert np.array_equal(example.labels, target)

    def test_the_classes(self):
        assert len(set(VOC_CLASSES)) == 20 and VOC_CLASSES[14] == "person" and VOC_CLASSES[19] == "tv"
        assert len(set(CONTEXT_CLASSES)) == 59 and CONTEXT_CLASSES[0] == "aeroplane"
        assert CONTEXT_CLASSES[39] == "potted plant" and CONTEXT_CLASSES[58] == "wood"
        assert len(set(COCO_CLASSES)) == 80 and COCO_CLASSES[0] == "person"
        assert COCO_CLASSES[79] == "toothbrush"


def box(top, left, bottom, right):
    """A rectangle as COCO's polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask):
    """A mask as COCO's uncompressed run-length code: lengths of 0s and 1s in turn, column by column."""
    flat = np.concatenate([[0], mask.ravel(order="F").astype(int), [1 - mask[-1, -1]]])
    edges = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


class TestCOCO:
    @pytest.fixture
    def content(self):
        pytest.importorskip("pycocotools")
        # COCO's ids go to 90 with gaps; these do, too: id = 2 · label.
        kinds = [{"id": 2 * k, "name": name} for k, name in enumerate(COCO_CLASSES, start=1)]
        images = [
            {"id": i, "file_name": f"{i:012}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (9, 7, 8)
        ]
        crowd = labels((0, 0, 12, 8, 1)).astype(bool)
        person, cup, dog, table = 2, 84, 34, 122
        things = [
            {"id": 1, "image_id": 7, "category_id": cup, "segmentation": [box(2, 4, 5, 7)]},
            {"id": 2, "image_id": 7, "category_id": table, "segmentation": [box(1, 2, 10, 12)]},
            {"id": 3, "image_id": 8, "category_id": person, "segmentation": runs(crowd), "iscrowd": 1},
            {"id": 4, "image_id": 8, "category_id": dog, "segmentation": [box(3, 6, 6, 9), [1, 1, 5, 5]]},
            {
                "id": 5,
                "image_id": 8,
                "category_id": person,
                "segmentation": [box(0, 0, 12, 20), [1, 1, 5, 5]],
            },
        ]
        return {"categories": kinds[::-1], "images": images, "annotations": things}

    @pytest.fixture
    def root(self, tmp_path, content):
        for which in ("train2017", "val2017"):
            write(tmp_path / f"annotations/instances_{which}.json", json.dumps(content))
            for i in (7, 8, 9):
                put(tmp_path / which / f"{i:012}.jpg", photograph())
        return tmp_path

    def again(self, root, content):
        write(root / "annotations/instances_val2017.json", json.dumps(content))
        return load_data("coco-object", root=root)

    def test_outlines_become_labels(self, root, content):
        content["annotations"].pop()  # the person who covers it all
        data = self.again(root, content)
        assert data.names == tuple(f"{i:012}" for i in (7, 8, 9))
        assert np.array_equal(data[0].labels, labels((1, 2, 10, 12, 61), (2, 4, 5, 7, 42)))  # cup on table
        assert data[0].image.size == SIZE[::-1] and data[0].present() == [42, 61]
        assert data[0].labels.dtype == np.uint8
        # A crowd does not count, the dog in it does.
        assert np.array_equal(data[1].labels, labels((0, 0, 12, 8, 255), (3, 6, 6, 9, 17)))
        assert not data[2].labels.any() and data[2].present() == []

    def test_an_object_in_a_crowd_counts_though_it_is_larger(self, root):
        example = load_data("coco-object", root=root, split="validation")[1]
        assert np.array_equal(example.labels, labels((0, 0, 12, 20, 1), (3, 6, 6, 9, 17)))

    def test_any_run_length_code(self, root, content):
        from pycocotools import mask

        tree = np.random.default_rng(1).random(SIZE) > 0.5
        packed = mask.encode(np.asfortranarray(tree.astype(np.uint8)))
        packed = packed | {"counts": packed["counts"].decode()}
        for code in (packed, runs(tree)):
            content["annotations"] = [{"id": 1, "image_id": 9, "category_id": 160, "segmentation": code}]
            assert np.array_equal(self.again(root, content)[2].labels == 80, tree)

    def test_what_is_missing(self, root, monkeypatch):
        (root / "val2017/000000000007.jpg").unlink()
        with pytest.raises(FileNotFoundError, match=r"07.jpg' is not there: '.*val2017.json' names it"):
            load_data("coco-object", root=root)[0]
        (root / "annotations/instances_train2017.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"train2017.json' is not there: unpack http"):
            load_data("coco-object", root=root, split="validation")
        with pytest.raises(FileNotFoundError, match=r"nowhere' is not there: unpack http"):
            load_data("coco-object", root=root / "nowhere")
        monkeypatch.setitem(sys.modules, "pycocotools", None)
        with pytest.raises(ImportError, match=r'pip install "ovamnb\[evaluate\]"'):
            load_data("coco-object", root=root)

    def test_what_is_damaged(self, root, content):
        put(root / "val2017/000000000007.jpg", photograph((6, 10)))
        with pytest.raises(ValueError, match=r"07.jpg' has 6×10 pixels, of 12×20 in '.*val2017.json'"):
            load_data("coco-object", root=root)[0]
        thing = {"id": 77, "image_id": 9, "category_id": 4, "segmentation": [box(0, 0, 4, 4)]}
        for wrong in (
            {"segmentation": runs(np.ones((3, 4), bool))},
            {"segmentation": {"size": list(SIZE), "counts": [5, 500]}},
            {"segmentation": [[1] * 7]},
            {"segmentation": None},
            {"category_id": 3},
        ):
            data = self.again(root, content | {"annotations": [thing | wrong]})
            with pytest.raises(ValueError, match=r"val2017.json': object 77 is damaged"):
                data[2]
        for wrong in ([], {}, content | {"annotations": [{"image_id": 1}]}):
            with pytest.raises(ValueError, match=r"val2017.json' is damaged or no annotation file"):
                self.again(root, wrong)
        with pytest.raises(ValueError, match=r"other categories than COCO's 80"):
            self.again(root, content | {"categories": content["categories"][1:]})


class TestFolder:
    NAMES = tuple(f"picture {i}" for i in range(8))

    @pytest.fixture
    def root(self, tmp_path):
        write(tmp_path / "classes.txt", "cat", "red car", "")
        for i, name in enumerate(self.NAMES):
            put(tmp_path / "images" / f"{name}{('.png', '.JPG')[i % 2]}", photograph())
            put(tmp_path / "labels" / f"{name}.png", labels((1, 1, 5, 5, 2), (5, 5, 6, 6, 255)), i % 3 == 0)
        return tmp_path

    def test_images_and_labels(self, root):
        data = load_data("folder", root=root)
        assert data.classes == ("cat", "red car")
        assert {*data.names} | {*load_data("folder", root=root, split="validation").names} == {*self.NAMES}
        for example in data:
            assert np.array_equal(example.labels, labels((1, 1, 5, 5, 2), (5, 5, 6, 6, 255)))
            assert example.image.size == SIZE[::-1] and example.prompt is example.seed is None

    def test_its_own_lists(self, root):
        write(root / "test.txt", "picture 3", "picture 1")
        with pytest.raises(FileNotFoundError, match=r"validation.txt' is not there: .* both or neither"):
            load_data("folder", root=root)
        write(root / "validation.txt", "picture 3")
        with pytest.raises(ValueError, match=r"'picture 3' stands in '.*validation.txt' and in"):
            load_data("folder", root=root)
        write(root / "validation.txt", "")
        assert load_data("folder", root=root).names == ("picture 3", "picture 1")
        with pytest.raises(ValueError, match="validation split of folder is empty"):
            load_data("folder", root=root, split="validation")
        write(root / "test.txt", "picture 9")
        with pytest.raises(FileNotFoundError, match=r"labels/picture 9.png' is not there"):
            load_data("folder", root=root)

    def test_a_name_that_leads_out_of_the_folder(self, root):
        write(root / "validation.txt", "picture 3")
        write(root / "prompts.csv", "name,prompt,seed", "../x,a cat,1")
        write(root / "test.txt", "../x")
        put(root / "x.png", labels())
        with pytest.raises(ValueError, match=r"'\.\./x' cannot be the name of a picture, since it leads out"):
            load_data("folder", root=root)

    def test_prompts(self, root):
        table = root / "prompts.csv"
        write(root / "validation.txt", "picture 3")
        write(root / "test.txt", "picture 0", "picture 1", "picture 2")
        write(table, "seed,name,prompt", '7,picture 0,"a cat, and a car"', ",picture 1,a cat", ",picture 2,")
        (root / "images/picture 1.JPG").unlink()
        first, drawn, last = load_data("folder", root=root)
        assert (first.prompt, first.seed) == ("a cat, and a car", 7) and first.image is not None
        assert (drawn.prompt, drawn.seed, drawn.image) == ("a cat", 0, None)
        assert last.prompt is None
        (root / "images/picture 2.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"picture 2.png' has no image .* nor a prompt"):
            load_data("folder", root=root)
        for line, wrong in (
            ("-1,picture 0,a cat", "seed of 'picture 0' is no whole number"),
            ("1,picture 1,a cat\n1,picture 1,a cat", "names 'picture 1' more than once"),
        ):
            write(table, "seed,name,prompt", line)
            with pytest.raises(ValueError, match=rf"prompts.csv'.* {wrong}"):
                load_data("folder", root=root)
        write(table, "name,prompt", "picture 0,a cat")
        with pytest.raises(ValueError, match=r"prompts.csv' has no column 'seed'"):
            load_data("folder", root=root)
        table.write_bytes("name,prompt,seed\npicture 0,a café,1\n".encode("latin-1"))
        with pytest.raises(ValueError, match=r"prompts.csv' is no text in UTF-8"):
            load_data("folder", root=root)

    def test_what_is_missing_or_damaged(self, root):
        write(root / "validation.txt", "picture 1")
        write(root / "test.txt", "picture 0")
        put(root / "labels/picture 0.png", labels((1, 1, 5, 5, 3)))
        with pytest.raises(ValueError, match=r"labels/picture 0.png': the labels \[3\] mean nothing"):
            load_data("folder", root=root)[0]
        put(root / "labels/picture 0.png", labels((1, 1, 5, 5, 3)).astype(np.uint16))
        with pytest.raises(ValueError, match=r"picture 0.png': the labels \[3\] mean nothing: .* 65535"):
            load_data("folder", root=root)[0]
        put(root / "labels/picture 0.png", photograph())
        with pytest.raises(ValueError, match=r"picture 0.png' holds no labels but RGB pixels: .* 16 bits"):
            load_data("folder", root=root)[0]
        (root / "images/picture 0.png").write_bytes(b"")
        with pytest.raises(ValueError, match=r"images/picture 0.png' cannot be read"):
            load_data("folder", root=root)[0]
        (root / "labels/picture 0.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"labels/picture 0.png' is not there: each image needs"):
            load_data("folder", root=root)
        put(root / "images/picture 3.png", photograph())
        with pytest.raises(ValueError, match=r"has the name of 'picture 3.JPG': leave one"):
            load_data("folder", root=root)
        for lines, wrong in (
            (("cat", "cat"), "'cat' more than once"),
            ((), "0 classes"),
            (range(65535), "65535 classes, not 1 to 65534"),
        ):
            write(root / "classes.txt", *lines)
            with pytest.raises(ValueError, match=rf"classes.txt' .*{wrong}"):
                load_data("folder", root=root)
        (root / "classes.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"classes.txt' is not there: a folder of images has"):
            load_data("folder", root=root)

    def test_hundreds_of_classes(self, root):
        """Sixteen bits beyond 254 classes, where 255 is a class; files of eight bits still count there."""
        write(root / "classes.txt", *(f"class {k}" for k in range(1, 301)))
        write(root / "validation.txt", "picture 1")
        write(root / "test.txt", "picture 0", "picture 2")
        wide = labels((1, 1, 5, 5, 2), (5, 5, 6, 6, 255)).astype(np.uint16)
        wide[8:] = 300
        wide[0] = 65535
        put(root / "labels/picture 0.png", wide)
        data = load_data("folder", root=root)
        assert len(data.classes) == 300 and data[0].labels.dtype == data[1].labels.dtype == np.uint16
        assert np.array_equal(data[0].labels, wide) and data[0].present() == [2, 255, 300]
        narrow = labels((1, 1, 5, 5, 2), (5, 5, 6, 6, 255))  # as the fixture wrote it, in eight bits
        assert np.array_equal(data[1].labels == 65535, narrow == 255) and data[1].present() == [2]
        wide[3] = 301
        put(root / "labels/picture 0.png", wide)
        with pytest.raises(ValueError, match=r"the labels \[301\] mean nothing: .* 1 to 300 .* 65535 does"):
            data[0]

    def test_an_unlabelled_image_is_missed_without_lists(self, root):
        for path in root.glob("labels/*"):
            path.unlink()
        with pytest.raises(FileNotFoundError, match="each image needs its labels"):
            load_data("folder", root=root)


def outlined(top, left, bottom, right):
    """An annotation as the OVAM authors' tool paints it: coloured on black."""
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[top:bottom, left:right] = (0, 0, 128)
    return picture


def examples(name, root):
    """{name: example} of both splits."""
    return {e.name: e for split in ("validation", "test") for e in load_data(name, split=split, root=root)}


class TestOVAM:
    WORDS = ("cat", "dining-table", "tv", "dog", "horse", "sheep", "bus", "car")

    @pytest.fixture
    def sim(self, tmp_path):
        root = tmp_path / "voc_sim"
        for i, word in enumerate(self.WORDS):
            put(root / f"annotations/{word}_sd15_seed{i}_annotation.png", outlined(1, 2, 5, 9))
            put(root / f"images/{word}_sd15_seed{i}.png", photograph())
        return root

    @pytest.fixture
    def cap(self, tmp_path):
        root, lines = tmp_path / "coco_cap", ["caption_id,caption,category_name,categories,word_included"]
        for i, word in enumerate(word.replace("-", " ") for word in self.WORDS):
            put(root / f"annotations/{word}_sd-15_caption_{100 + i}_seed_{i}.png", outlined(1, 2, 5, 9))
            put(root / f"images/{word}_sd15_caption{100 + i}_seed{i}.png", photograph())
            lines.append(f'{100 + i},"a {word}, on grass",{word},{word},True')
        write(tmp_path / "coco_captions_sampled.csv", *lines)  # beside the folder, as the authors have it
        return root

    def test_simple_prompts(self, sim):
        found = examples("ovam-voc-sim", sim)
        assert len(found) == len(self.WORDS)
        example = found["dining-table_sd15_seed1"]
        assert np.array_equal(example.labels, labels((1, 2, 5, 9, VOC_CLASSES.index("dining table") + 1)))
        assert (example.prompt, example.seed) == ("A photograph of a dining table", 1)
        assert example.image.size == SIZE[::-1]

    def test_the_table_of_prompts(self, sim):
        rows = [f"{word.replace('-', ' ')},one {word},{i}" for i, word in enumerate(self.WORDS)]
        write(sim / "voc_sim.csv", "classname,prompt,seed", *rows)
        assert examples("ovam-voc-sim", sim)["tv_sd15_seed2"].prompt == "one tv"
        write(sim / "voc_sim.csv", "classname,prompt,seed", *rows[1:])
        with pytest.raises(ValueError, match=r"voc_sim.csv' has no prompt for '.*cat_sd15_seed0_"):
            load_data("ovam-voc-sim", root=sim)
        write(sim / "voc_sim.csv", "classname,seed", "cat,1")
        with pytest.raises(ValueError, match=r"voc_sim.csv' has no column 'prompt'"):
            load_data("ovam-voc-sim", root=sim)

    def test_captions(self, cap):
        found = examples("ovam-coco-cap", cap)
        assert len(found) == len(self.WORDS)
        example = found["dining table_sd15_caption101_seed1"]
        assert example.present() == [VOC_CLASSES.index("dining table") + 1]
        assert (example.prompt, example.seed) == ("a dining table, on grass", 1)
        assert example.image is not None
        table = cap.parent / "coco_captions_sampled.csv"
        table.rename(cap / table.name)
        assert examples("ovam-coco-cap", cap).keys() == found.keys()
        write(cap / table.name, "caption_id,caption", "100,a cat")
        with pytest.raises(ValueError, match=r"sampled.csv' has no prompt for '.*_caption_106_"):
            load_data("ovam-coco-cap", root=cap)
        (cap / table.name).unlink()
        with pytest.raises(FileNotFoundError, match=r"sampled.csv' is not there: the OVAM authors give"):
            load_data("ovam-coco-cap", root=cap)

    def test_images_are_stored_or_drawn(self, sim):
        for path in sim.glob("images/*"):
            path.unlink()
        with pytest.raises(
            FileNotFoundError, match=r"images/.*' is not there: '.*_annotation.png' annotates"
        ):
            examples("ovam-voc-sim", sim)
        (sim / "images").rmdir()
        assert {example.image for example in examples("ovam-voc-sim", sim).values()} == {None}

    def test_what_is_missing_or_damaged(self, sim):
        (sim / "annotations/zebra_sd15_seed3_a.png").touch()
        with pytest.raises(
            ValueError, match=r"zebra_sd15_seed3_a.png' shows a 'zebra', none of VOC's classes"
        ):
            load_data("ovam-voc-sim", root=sim)
        (sim / "annotations/zebra_sd15_seed3_a.png").rename(sim / "annotations/cat_sd15_seed0_b.png")
        with pytest.raises(ValueError, match=r"cat_sd15_seed0_b.png' and .* annotate one image"):
            load_data("ovam-voc-sim", root=sim)
        (sim / "annotations/cat_sd15_seed0_b.png").rename(sim / "annotations/cat.png")
        with pytest.raises(ValueError, match=r"cat.png' is not named like CLASS_MODEL_seedSEED"):
            load_data("ovam-voc-sim", root=sim)
        (sim / "annotations/cat.png").unlink()
        for path in sim.glob("annotations/*"):
            put(path, outlined(0, 0, 1, 1)[:, :8])
        with pytest.raises(
            ValueError, match=r"_annotation.png': the image has 12×20 pixels, its labels 12×8"
        ):
            examples("ovam-voc-sim", sim)
        for path in sim.glob("annotations/*"):
            path.write_bytes(b"no picture")
        with pytest.raises(ValueError, match=r"_annotation.png' cannot be read"):
            examples("ovam-voc-sim", sim)
        (sim / "annotations").rename(sim / "masks")
        with pytest.raises(FileNotFoundError, match=r"annotations' is not there: the OVAM authors give"):
            load_data("ovam-voc-sim", root=sim)


class TestLabelMaps:
    def test_a_few_classes_have_eight_bits_whatever_the_file(self, tmp_path):
        wide = np.array([[0, 1, 254, 65535]], np.uint16)
        put(tmp_path / "a.png", wide)
        found = read_labels(tmp_path / "a.png", "")
        assert found.dtype == np.uint8 and found.tolist() == [[0, 1, 254, 255]]
        put(tmp_path / "a.png", np.array([[0, 255]], np.uint16))
        with pytest.raises(ValueError, match=r"labels \[255\] mean nothing: .* 65535 does not count in 16"):
            read_labels(tmp_path / "a.png", "")

    @pytest.mark.parametrize("classes", [254, 255, 65534])
    def test_what_is_written_is_read(self, tmp_path, classes):
        there = np.array([[0, 1, classes, ignored_in(classes)]], dtype_of(classes))
        write_png(label_image(there), tmp_path / "new" / "a.png")
        found = read_labels(tmp_path / "new" / "a.png", "", classes)
        assert found.dtype == there.dtype and np.array_equal(found, there)
        with Image.open(tmp_path / "new" / "a.png") as image:
            assert image.mode == ("P" if classes == 254 else "I;16")
            assert classes > 254 or image.getpalette() == voc_palette()

    def test_sixteen_bits_are_the_most(self):
        with pytest.raises(ValueError, match="at most 65534 classes, not 65535"):
            ignored_in(65535)

    def test_any_whole_numbers_become_those_of_the_number_of_classes(self):
        class Wide(Data):
            classes, names = tuple(map(str, range(300))), ("a",)

            def read(self, index):
                return Example("a", np.array([[0, 255, 65535]]))

        assert Wide()[0].labels.dtype == np.uint16 and Wide()[0].present() == [255]
        assert Wide().shown(0) == [255] and Wide().labelled(0) and Wide().picture(0) is None


class TestImageLevelLabels:
    """What VOC says of a photograph without outlining anything."""

    @pytest.fixture
    def year(self, tmp_path):
        year = tmp_path / "VOC2012"
        write(year / "ImageSets/Segmentation/train.txt", "2007_000032", "2007_000033")
        for name in ("2007_000032", "2007_000033", "2008_000001"):
            put(year / f"JPEGImages/{name}.jpg", photograph())
        put(year / "SegmentationClass/2007_000032.png", TRUTH)
        return year

    def annotate(self, year, name, *objects):
        parts = "<part><name>head</name></part>"
        things = [f"<object><name>{kind}</name>{parts}</object>" for kind in objects]
        write(year / f"Annotations/{name}.xml", "<annotation>", *things, "</annotation>")

    def test_of_the_annotations(self, year):
        self.annotate(year, "2007_000032", "tvmonitor", "person", "person", "diningtable")
        self.annotate(year, "2007_000033")
        data = load_data("voc", split="validation", root=year)
        assert [data.shown(k) for k in range(2)] == [[11, 15, 20], []]
        assert [data.labelled(k) for k in range(2)] == [True, False]
        assert data.picture(1).size == SIZE[::-1], "without labels"
        for damaged in ("<annotation>", "<annotation><object><name>unicorn</name></object></annotation>"):
            write(year / "Annotations/2007_000032.xml", damaged)
            with pytest.raises(ValueError, match=r"2007_000032.xml' is no annotation of VOC's"):
                data.shown(0)
        (year / "Annotations/2007_000032.xml").unlink()
        with pytest.raises(FileNotFoundError, match=r"2007_000032.xml' is not there: '.*train.txt' names it"):
            data.shown(0)

    def test_of_the_lists(self, year):
        for kind in (name.replace(" ", "") for name in (*VOC_CLASSES[:-1], "tvmonitor")):
            there = {"cat": 1, "diningtable": 0}.get(kind, -1)
            write(year / f"ImageSets/Main/{kind}_train.txt", f"2007_000032 {there:2}")
            write(year / f"ImageSets/Main/{kind}_val.txt", f"2008_000001 {-there:2}")
        data = load_data("voc", split="validation", root=year)
        assert data.shown(0) == [8, 11], "a difficult one is there, too"
        with pytest.raises(ValueError, match=r"Main' names '2007_000033', .* the folder Annotations"):
            data.shown(1)
        (year / "ImageSets/Main/sofa_val.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"sofa_val.txt' is not there: unpack http"):
            load_data("voc", split="validation", root=year).shown(0)

    def test_a_list_of_one_s_own(self, year):
        file = year.parent / "train_aug.txt"
        write(file, "2008_000001", "/JPEGImages/2007_000033.jpg /SegmentationClassAug/2007_000033.png")
        data = load_data("voc", split="validation", root=year)
        more = data.listed(file)
        assert more.names == ("2008_000001", "2007_000033") and len(data) == 2
        assert not more.labelled(0) and more.picture(0).size == SIZE[::-1]
        write(file, "")
        with pytest.raises(ValueError, match=r"train_aug.txt' names no photograph"):
            data.listed(file)


class TestSplits:
    NAMES = tuple(f"picture{i}" for i in range(200))

    def test_they_share_nothing_and_leave_nothing_out(self):
        validation, test = (split_by_name(self.NAMES, split) for split in ("validation", "test"))
        assert not {*validation} & {*test} and {*validation} | {*test} == {*self.NAMES}
        assert 30 < len(validation) < 70
        assert test == sorted(test) == split_by_name(self.NAMES[::-1], "test")

    def test_an_added_example_moves_no_other(self):
        for split in ("validation", "test"):
            fewer = split_by_name(self.NAMES[:100], split)
            assert [n for n in split_by_name(self.NAMES, split) if n in self.NAMES[:100]] == fewer

    def test_none_is_empty(self):
        with pytest.raises(ValueError, match="of 1 examples none"):
            for split in ("validation", "test"):
                split_by_name(["cat"], split)

    def test_what_is_asked_for(self):
        with pytest.raises(ValueError, match=f"no data set 'coco': choose of {', '.join(DATA)}"):
            load_data("coco")
        with pytest.raises(ValueError, match="splits are validation and test, not 'train'"):
            load_data("voc", split="train")


def test_names_stay_in_their_folder():
    require_names(["a", "a.b", "a b", "part/a", "..a", "a..b", "12:30"])
    for name in ("../a", "a/../../b", "/a", "..", "..\\a", "C:\\a"):
        with pytest.raises(ValueError, match="leads out of the folder: give the names of files"):
            require_names(["good", name])


def test_a_mark_tells_examples_apart():
    class Few(Data):
        classes, names, prompt, painted = ("cat",), ("a", "b", "c"), None, 1

        def read(self, index):
            pixels = photograph()
            pixels[0, 0, 0] ^= self.painted > 2
            return Example(
                self.names[index],
                labels((0, 0, 2, 2, self.painted % 2)),
                Image.fromarray(pixels),
                self.prompt,
            )

    def content_hash(indices=(0, 1), **changed):
        data = Few()
        for name, value in changed.items():
            setattr(data, name, value)
        return data.content_hash(indices)

    assert content_hash() == content_hash() and len(content_hash()) == 12
    others = [
        content_hash((0,)),
        content_hash(painted=2),
        content_hash(painted=3),
        content_hash(prompt="a cat"),
    ]
    assert len({content_hash(), *others}) == 5, "other pictures, labels, pixels, prompts"


def test_the_data_are_a_sequence():
    class Two(Data):
        classes, names = ("cat",), ("a", "b")

        def read(self, index):
            return Example(self.names[index], labels((0, 0, 2, 2, index)))

    assert [example.name for example in Two()] == ["a", "b"]
    for index in (2, -1):
        with pytest.raises(IndexError, match="the split has 2"):
            Two()[index]


def test_the_names_of_what_does_not_fit():
    for wrong in (np.zeros(SIZE), np.zeros((*SIZE, 3), np.uint8)):
        with pytest.raises(ValueError, match="'a': labels are whole numbers of shape"):
            check(Example("a", wrong), ("cat",))
