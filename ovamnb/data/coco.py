"""COCO-Object: the 80 object classes of COCO, from its own annotation files."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .base import Data, Example
from .on_disk import IGNORED, read_image, require

# In the order of COCO's category ids, which run to 90 with gaps.
COCO_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase"),
    *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard"),
    *("surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    *("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),
    *("chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote"),
    *("keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock"),
    *("vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)

REMEDY = (
    "unpack http://images.cocodataset.org/annotations/annotations_trainval2017.zip and "
    "http://images.cocodataset.org/zips/val2017.zip (for the validation split, train2017.zip) in "
    "data/coco-object or in the folder given as root: that makes annotations/, val2017/ and train2017/ there."
)


class COCOObject(Data):
    """COCO-Object: 80 classes of things in photographs; stuff, such as the sky, is background.

        data = load_data("coco-object", split="test", root="data/coco-object")

    Thresholds are chosen on train2017 (the split "validation") and scores are of val2017 ("test"). Labels
    (h, w) are 1 to 80 in the order of COCO's category ids. They are made from instances_*2017.json:

    - Where objects overlap, the smaller one is on top: a cup stands before the table, not behind it.
    - A crowd is outlined as a whole, gaps included, so its pixels do not count (255), except those of an
      object in it that has an outline of its own.
    - A photograph with no object is kept, as all background.

    The usual conversion relabels the pixel maps of COCO-Stuff instead, and counts what they leave unlabelled
    as background; scores can differ a little. The annotation file of train2017 has half a gigabyte: to read
    it takes half a minute and about 2 GB of memory.

    Raises ImportError without pycocotools, FileNotFoundError, with where to get it, for what is missing, and
    ValueError for what is damaged.
    """

    classes = COCO_CLASSES

    def __init__(self, root: Path | None, split: str) -> None:
        _mask()  # without pycocotools, say so now and not after the long file
        root = require(root or Path("data") / "coco-object", REMEDY)
        which = {"validation": "train2017", "test": "val2017"}[split]
        self.folder, self.file = root / which, root / "annotations" / f"instances_{which}.json"
        require(self.file, REMEDY)
        require(self.folder, REMEDY)
        try:
            content = json.loads(self.file.read_bytes())
            kinds = sorted(content["categories"], key=lambda kind: kind["id"])
            self.images = sorted(content["images"], key=lambda image: image["id"])
            self.objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
            for thing in content["annotations"]:
                self.objects[thing["image_id"]].append(thing)
            self.names = tuple(Path(image["file_name"]).stem for image in self.images)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"'{self.file}' is damaged or no annotation file of COCO's ({error!r}): {REMEDY}"
            ) from None
        if tuple(kind["name"] for kind in kinds) != COCO_CLASSES:
            raise ValueError(
                f"'{self.file}' has other categories than COCO's 80. For classes of your own, make label "
                "maps and take the data set 'folder'."
            )
        self.label = {kind["id"]: k for k, kind in enumerate(kinds, start=1)}

    def source(self, index: int) -> Path:
        return self.file

    def read(self, index: int) -> Example:
        image = self.images[index]
        photograph = read_image(
            self.folder / image["file_name"],
            f"'{self.file}' names it, so the data set is incomplete. {REMEDY}",
        )
        size = image["height"], image["width"]
        if photograph.size != size[::-1]:
            raise ValueError(
                f"'{self.folder / image['file_name']}' has {photograph.height}×{photograph.width} pixels, of "
                f"{size[0]}×{size[1]} in '{self.file}': use COCO's own files, not resized."
            )
        return Example(self.names[index], self._labels(self.objects[image["id"]], *size), photograph)

    def _labels(self, things: list[dict[str, Any]], h: int, w: int) -> np.ndarray:
        labels = np.zeros((h, w), np.uint8)
        masks: list[tuple[bool, int, int, np.ndarray]] = []
        for thing in things:
            try:
                mask = _rasterized(thing["segmentation"], h, w)
                label, crowd = self.label[thing["category_id"]], bool(thing.get("iscrowd", 0))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"'{self.file}': object {thing.get('id')} is damaged: {error!r}") from None
            masks.append((crowd, int(mask.sum()), IGNORED if crowd else label, mask))
        # Crowds first and then from large to small: what comes later covers what came before.
        for *_, label, mask in sorted(masks, key=lambda one: (not one[0], -one[1])):
            labels[mask] = label
        return labels


def _rasterized(segmentation: list[list[float]] | dict[str, Any], h: int, w: int) -> np.ndarray:
    """The mask (h, w) bool of polygons [x, y, x, y, …] or of a run-length code, by pycocotools."""
    mask = _mask()
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [h, w]:
            raise ValueError(f"its code is of {segmentation['size']} pixels, its image of {[h, w]}")
        plain = isinstance(segmentation["counts"], list)
        if plain and sum(segmentation["counts"]) != h * w:
            raise ValueError(f"its code ends after {sum(segmentation['counts'])} of {h * w} pixels")
        return mask.decode(mask.frPyObjects(segmentation, h, w) if plain else segmentation).astype(bool)
    if any(len(polygon) % 2 for polygon in segmentation):
        raise ValueError("a corner of it has no y")
    # Two corners hold no pixel, and pycocotools would take their four numbers for a box.
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        return np.zeros((h, w), bool)
    return mask.decode(mask.merge(mask.frPyObjects(polygons, h, w))).astype(bool)


def _mask() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError('COCO\'s outlines need pycocotools: `pip install "ovamnb[evaluate]"`.') from error
    return mask
