"""Where labelled pictures come from: a real data set to train and test on, and any number of synthetic
sources.

name, data = source("judge=runs/synthetic:SegmentationClass-judge")     # what synthesize wrote
data = Matched(data, real.classes)                      # with the real set's labels
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..data import load_data
from ..data.base import Data, Example
from ..data.on_disk import IGNORED
from .pictures import Sample

REAL = "real"
"""The name of the real source in tables."""


class Matched(Data):
    """A data set with its labels renumbered: label k is the class `classes[k - 1]`.

    Raises ValueError for a data set without pictures, and where it has a class that `classes` does not.
    """

    def __init__(self, data: Data, classes: Sequence[str]) -> None:
        if not len(data):
            raise ValueError("A source has no pictures: make some, or let its filters keep some.")
        if unknown := [name for name in data.classes if name not in classes]:
            raise ValueError(
                f"The real set has no class {', '.join(unknown)}: it has {', '.join(classes)}. Rename it in "
                "the source's classes.txt, or make the source anew without it."
            )
        self.data, self.classes = data, tuple(classes)
        self.names, self.truth = data.names, data.truth
        self.lookup = np.full(256, IGNORED, np.uint8)
        self.lookup[: len(data.classes) + 1] = [0, *(self.classes.index(name) + 1 for name in data.classes)]

    def read(self, index: int) -> Example:
        example = self.data[index]
        if example.image is None:
            raise ValueError(
                f"'{example.name}' is a prompt without a picture, and nothing is drawn here: give a set that "
                "has pictures."
            )
        return replace(example, labels=self.lookup[example.labels])


def matched(source: Data | Iterable[Example], classes: Sequence[str]) -> Iterable[Example]:
    """Examples with the labels of `classes`: a Data is matched, others are kept. Raises as Matched."""
    return Matched(source, classes) if isinstance(source, Data) else source


def source(text: str) -> tuple[str, Data]:
    """Name and data of "[NAME=]DIR[:MASKS]", MASKS being the folder of label maps in DIR (default
    SegmentationClass), NAME by default both without a slash.

    Raises ValueError for a name that cannot be part of a file name, FileNotFoundError for what is not there.
    """
    from ..synthesize.folder import MASKS, LabelledFolder

    name, equals, place = text.rpartition("=")
    folder, colon, masks = place.partition(":")
    name = name if equals else "-".join(filter(None, (Path(folder).resolve().name, masks)))
    if not re.fullmatch(r"\w[\w.+-]*", name) or name == REAL:
        raise ValueError(
            f"'{name}' cannot name a source: give letters, digits and .+-_ (but not '{REAL}') before =, as "
            f"in mine={place}."
        )
    return name, LabelledFolder(Path(folder), masks if colon else MASKS)


def sources(texts: Sequence[str], classes: Sequence[str]) -> dict[str, Data]:
    """Name → data with the labels of `classes`. Raises as `source` and Matched, and ValueError for a name
    that comes twice."""
    found: dict[str, Data] = {}
    for text in texts:
        name, data = source(text)
        if name in found:
            raise ValueError(f"Two sources go by '{name}': tell them apart, as in other={text}.")
        try:
            found[name] = Matched(data, classes)
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
    return found


def real(name: str, root: Path | None) -> tuple[Data, Data]:
    """The pool of training pictures, and the test split. emoji-real has a pool of its own; that of another
    set is its validation split, which for Pascal VOC is VOC's training list.

    Raises as `load_data`, and ValueError for a set whose pictures a model has to generate first.
    """
    test = load_data(name, split="test", root=root)
    if name == "emoji-real":
        from ..data.emoji_sets import Pool

        pool = Pool()
    else:
        pool = load_data(name, split="validation", root=root)
    both = Matched(pool, pool.classes), Matched(test, test.classes)
    for data in both:
        data[0]
    return both


def chosen(count: int, k: int, seed: int) -> list[int]:
    """Which k of `count` pictures: the first k of a random order by `seed`, so that a larger k adds to them.

    Raises ValueError unless 1 ≤ k ≤ count.
    """
    if not 1 <= k <= count:
        raise ValueError(f"k = {k} is out of range: the pool has {count} real pictures, and k counts from 1.")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:k].tolist()


def content_hash(samples: Sequence[Sample]) -> str:
    """A hash of these samples, 8 hexadecimal digits."""
    value = 0
    for parts in samples:
        for part in parts:
            value = zlib.crc32(part.contiguous().numpy(), value)
    return f"{value:08x}"
