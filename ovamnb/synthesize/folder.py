"""The folder of a synthetic set, in formats that common libraries read.

DIR/metadata.jsonl                              a line for each picture that the filters kept
DIR/dropped.jsonl                               the same for those that they dropped, and why
DIR/classes.txt                                 the class of label k in line k
DIR/settings.json, DIR/records/NAME.json        what the run needs to go on
DIR/VOCdevkit/VOC2012/JPEGImages/NAME.png       the picture (and NAME.jpg, the same file under VOC's name)
DIR/VOCdevkit/VOC2012/SegmentationClass/NAME.png             its label map, with VOC's palette
DIR/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt       the names that the filters kept

`datasets.load_dataset("imagefolder", data_files="DIR/metadata.jsonl")` reads the first, torchvision's
`VOCSegmentation(DIR)` the last. (By `data_dir=DIR`, `datasets` would look for files named after a split, find
train.txt, and no metadata.) VOC's readers open a .jpg but go by its bytes, which are a PNG's: nothing is
lost to compression.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.base import Data, Example
from ..data.on_disk import label_image, read_image, read_labels, read_lines, require, write_png
from ..plumbing.files import write_text

VOC = Path("VOCdevkit", "VOC2012")
MASKS = "SegmentationClass"
KEYS = {"name", "prompt", "seed", "classes", "areas", "scores"}
"""What a record must hold."""
REMEDY = "a synthetic set is what `python -m ovamnb.synthesize --out DIR` writes."


def image_path(name: str) -> Path:
    """The path of a picture, relative to the set's folder."""
    return VOC / "JPEGImages" / f"{name}.png"


def labels_path(name: str, masks: str = MASKS) -> Path:
    """The path of its label map, relative to the set's folder; `masks`: which folder of label maps."""
    return VOC / masks / f"{name}.png"


def record_path(name: str) -> Path:
    """The path of its record, which is written last: where there is a record, there is a picture."""
    return Path("records", f"{name}.json")


def write_image(root: Path, name: str, image: Image.Image) -> None:
    """Write a picture as .png and, for VOC's readers, as .jpg: one file, where hard links are possible."""
    path = root / image_path(name)
    write_png(image, path)
    twin = path.with_suffix(".jpg")
    twin.unlink(missing_ok=True)
    try:
        os.link(path, twin)
    except OSError:  # some file systems have no links
        shutil.copyfile(path, twin)


def write_labels(root: Path, name: str, labels: np.ndarray, masks: str = MASKS) -> None:
    """Write a label map (h, w) uint8, in VOC's colours."""
    write_png(label_image(labels), root / labels_path(name, masks))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, whole or not at all."""
    write_text(path, "".join(f"{line}\n" for line in lines), make_folder=True)


def read_record(root: Path, name: str) -> dict | None:
    """The record of a picture; None where it has to be generated (again)."""
    try:
        record = json.loads((root / record_path(name)).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    there = (root / image_path(name)).exists() and (root / labels_path(name)).exists()
    return record if there and isinstance(record, dict) and record.keys() >= KEYS else None


def read_records(root: Path) -> Iterator[dict]:
    """The records of all pictures, sorted by name."""
    for path in sorted((root / "records").glob("*.json")):
        record = read_record(root, path.stem)
        if record is not None:
            yield record


class LabelledFolder(Data):
    """A synthetic set, read back.

        data = LabelledFolder(Path("runs/synthetic"))
        data[0].image, data[0].labels, data.classes

    `masks`: which folder of label maps. `kept`: only the pictures that the filters kept; False takes all.
    Raises FileNotFoundError, saying how to make it, for what is not there.
    """

    truth = "the attention of the model that drew the pictures"

    def __init__(self, root: str | Path, masks: str = MASKS, *, kept: bool = True) -> None:
        self.root, self.masks = require(Path(root), REMEDY), masks
        self.classes = read_lines(self.root / "classes.txt", REMEDY)
        require(self.root / VOC / masks, f"the set has no such label maps. {REMEDY}")
        if kept:
            self.names = read_lines(self.root / VOC / "ImageSets" / "Segmentation" / "train.txt", REMEDY)
        else:
            self.names = tuple(record["name"] for record in read_records(self.root))

    def source(self, index: int) -> Path:
        return self.root / labels_path(self.names[index], self.masks)

    def read(self, index: int) -> Example:
        name = self.names[index]
        image = read_image(self.root / image_path(name), REMEDY)
        return Example(name, read_labels(self.source(index), REMEDY), image)
