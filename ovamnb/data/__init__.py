"""Data sets: pictures with a label for every pixel, in two fixed splits or whole.

data = load_data("voc", split="test", root="data/VOCdevkit")
data.names[0], data[0].labels, data.classes

base.py        what a data set is
on_disk.py     the files of a data set: texts, pictures, label maps
emoji_sets.py  rendered scenes of emoji, and pictures that the bundled model generates
pascal.py      Pascal VOC 2012 and Pascal Context, as they are downloaded
coco.py        COCO-Object, from COCO's own annotation files
folders.py     a folder of images and label maps; the layout of the OVAM authors' sets
"""

from __future__ import annotations

from pathlib import Path

from .base import ALL, Data, require_names
from .coco import COCOObject
from .emoji_sets import Captioned, Rendered, Simple, Unseen
from .folders import Folder, OVAMCap, OVAMSim
from .pascal import VOC, Context

DATA: dict[str, type[Data]] = {
    "emoji-real": Rendered,
    "emoji-unseen": Unseen,
    "emoji-sim": Simple,
    "emoji-cap": Captioned,
    "voc": VOC,
    "context": Context,
    "coco-object": COCOObject,
    "folder": Folder,
    "ovam-voc-sim": OVAMSim,
    "ovam-coco-cap": OVAMCap,
}
"""Name → class, to call with (root, split); root is a Path or None."""
EARLIER = {"ovam-sim": "ovam-voc-sim", "ovam-cap": "ovam-coco-cap"}
"""Names that data sets had before, and still answer to."""


def load_data(name: str, *, split: str = "test", root: str | Path | None = None) -> Data:
    """A split of a data set by its name: see DATA.

    `root`: the folder it lies in; None for the sets that come with this package, and for the others' usual
    place, data/NAME. `split`: "validation" or "test"; of the OVAM authors' sets also "all", every picture, as
    their paper reports them. Raises ValueError for an unknown name or split, or an empty split, and
    FileNotFoundError, with where to get it, for a set that is not there.
    """
    name = EARLIER.get(name, name)
    if name not in DATA:
        raise ValueError(f"There is no data set '{name}': choose of {', '.join(DATA)}.")
    *splits, last = DATA[name].splits
    if split not in (*splits, last):
        whole = " and ".join(each for each, kind in DATA.items() if ALL in kind.splits)
        hint = f" Every picture at once, '{ALL}', is a split of {whole} only." if split == ALL else ""
        raise ValueError(f"The splits are {', '.join(splits)} and {last}, not '{split}'.{hint}")
    data = DATA[name](None if root is None else Path(root), split)
    if not len(data):
        raise ValueError(f"The {split} split of {name} is empty.")
    require_names(data.names)
    return data
