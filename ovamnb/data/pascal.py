"""Pascal VOC 2012 and Pascal Context, read from the folders that their archives unpack to."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Self
from xml.etree import ElementTree

from PIL import Image

from .base import Data, Example, require_names
from .on_disk import read_image, read_labels, read_lines, read_text, require

# In VOC's order; its own spelling is pottedplant, diningtable, tvmonitor, which no text encoder knows.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv"),
)

OWN_NAMES = {name.replace(" ", ""): k for k, name in enumerate(VOC_CLASSES, 1)} | {"tvmonitor": 20}
"""VOC's own spelling → label."""

DIFFSEGMENTER_WORDS = {
    "aeroplane": "plane",
    "bus": "buses",
    "dining table": "table",
    "person": "people",
    "potted plant": "plant",
    "tv": "monitor",
}
"""The words that DiffSegmenter's authors have for some of VOC's classes, "a photograph of plane":
github.com/VCG-team/DiffSegmenter at b3a8686, open_vocabulary/voc12/ptp_stable_best.py."""

# The 59 most frequent of the 459 annotated classes, in the order of the labels (here, too, in plain words).
CONTEXT_CLASSES = (
    *("aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle"),
    *("building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup"),
    *("curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard"),
    *("light", "motorbike", "mountain", "mouse", "person", "plate", "platform", "potted plant", "road"),
    *("rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train"),
    *("tree", "truck", "tv", "wall", "water", "window", "wood"),
)

LISTS = {"validation": "train.txt", "test": "val.txt"}  # the labels of VOC's own test list are not public


class Pascal(Data):
    """What both sets have in common: a year's folder of VOCdevkit, with lists, photographs and label maps.

    `root` is that folder, VOCdevkit around it, or the folder around VOCdevkit.
    """

    usual: str
    """The folder of the data set, below data/, where no root is given."""
    year: str
    lists: str
    """The folder of the lists, below ImageSets."""
    maps: str
    """The folder of the label maps."""
    remedy: str

    def __init__(self, root: Path | None, split: str) -> None:
        root = require(root or Path("data") / self.usual, self.remedy)
        around = [root / "VOCdevkit" / self.year, root / self.year]
        self.folder = next((folder for folder in around if folder.is_dir()), root)
        self.list_file = self.folder / "ImageSets" / self.lists / LISTS[split]
        self.names = read_lines(self.list_file, self.remedy)

    def source(self, index: int) -> Path:
        return self.folder / self.maps / f"{self.names[index]}.png"

    def read(self, index: int) -> Example:
        labels = read_labels(self.source(index), self._named())
        return Example(self.names[index], labels, self.picture(index))

    def picture(self, index: int) -> Image.Image:
        return read_image(self.folder / "JPEGImages" / f"{self.names[index]}.jpg", self._named())

    def listed(self, file: Path) -> Self:
        """The photographs that another list names, such as the 10,582 of train_aug, labelled or not.

        Each line begins with a name, or with the path of a file of that name. Raises FileNotFoundError and
        ValueError as `read_lines`, and ValueError for a list without names.
        """
        lines = read_lines(file, "give a text file with the name of a photograph in each line.")
        if not lines:
            raise ValueError(f"'{file}' names no photograph: give one name in each line.")
        other = copy(self)
        other.list_file, other.names = file, tuple(Path(line.split()[0]).stem for line in lines)
        require_names(other.names)
        return other

    def _named(self) -> str:
        return f"'{self.list_file}' names it, so the data set is incomplete. {self.remedy}"


class VOC(Pascal):
    """Pascal VOC 2012, segmentation: 20 classes in photographs.

        data = load_data("voc", split="test", root="data/voc")

    As the papers do, thresholds are chosen on its train list (1464 photographs: the split "validation") and
    scores are of its val list (1449: "test"). Labels are (h, w), each photograph has its own size; 255 marks
    the outlines of objects and what is too hard to tell. Reads the folder with Pillow, not with torchvision
    (whose VOCSegmentation makes this folder), since each torchvision fits one build of torch only.

    `shown` gives the image-level labels: the objects of Annotations/NAME.xml or, without that folder, the
    lists ImageSets/Main/CLASS_train.txt and CLASS_val.txt; objects that VOC calls difficult count, too.

    Raises FileNotFoundError, with where to get it, for what is missing, and ValueError for what is damaged.
    """

    classes, spoken = VOC_CLASSES, DIFFSEGMENTER_WORDS
    usual, year, lists, maps = "voc", "VOC2012", "Segmentation", "SegmentationClass"
    remedy = (
        "unpack http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar in data/voc or in "
        'the folder given as root, or let `torchvision.datasets.VOCSegmentation("data/voc", year="2012", '
        "download=True)` do it: that makes VOCdevkit/VOC2012 there."
    )

    def shown(self, index: int) -> list[int]:
        name, annotations = self.names[index], self.folder / "Annotations"
        if annotations.is_dir():
            path = annotations / f"{name}.xml"
            try:
                root = ElementTree.fromstring(read_text(path, self._named()))
                return sorted({OWN_NAMES[kind.text] for kind in root.findall("object/name")})
            except (ElementTree.ParseError, KeyError) as error:
                raise ValueError(f"'{path}' is no annotation of VOC's ({error}): unpack it anew.") from None
        if name not in self._lists:
            raise ValueError(
                f"No list in '{self.folder / 'ImageSets' / 'Main'}' names '{name}', so its classes are "
                f"unknown: give the folder Annotations, too. {self.remedy}"
            )
        return self._lists[name]

    @cached_property
    def _lists(self) -> dict[str, list[int]]:
        """Name → labels, by the lists of the classes: 1 is there, 0 is there but difficult, -1 is not."""
        found: dict[str, list[int]] = {}
        for kind, label in OWN_NAMES.items():
            for which in ("train", "val") if kind != "tv" else ():
                path = self.folder / "ImageSets" / "Main" / f"{kind}_{which}.txt"
                for line in read_lines(path, self.remedy):
                    name, _, flag = line.partition(" ")
                    found.setdefault(name, []).extend([label] if flag.strip() != "-1" else [])
        return {name: sorted(labels) for name, labels in found.items()}


class Context(Pascal):
    """Pascal Context: every pixel of VOC 2010's photographs as one of 59 classes, or as background.

        data = load_data("context", split="test", root="data/context")

    In the form that MMSegmentation's converter writes: VOC2010/SegmentationClassContext/NAME.png with 0 for
    the background, which is whatever is none of the 59, and 1 to 59; and the lists
    VOC2010/ImageSets/SegmentationContext/train.txt ("validation") and val.txt ("test"). Do not give
    maps that were shifted (0 to 58, 255 for the background): they cannot be told apart and would be misread.

    Raises FileNotFoundError, with where to get it, for what is missing, and ValueError for what is damaged.
    """

    classes = CONTEXT_CLASSES
    usual, year, lists, maps = "context", "VOC2010", "SegmentationContext", "SegmentationClassContext"
    remedy = (
        "unpack http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar in data/context "
        "or in the folder given as root, put trainval_merged.json of Pascal Context into VOCdevkit/VOC2010, "
        "and run MMSegmentation's tools/dataset_converters/pascal_context.py, which makes ImageSets/"
        "SegmentationContext and SegmentationClassContext there."
    )
