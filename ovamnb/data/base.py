"""What a data set is: examples with a label for every pixel, in two fixed splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from zlib import crc32

import numpy as np
from PIL import Image

from ..plumbing.english import with_article
from .on_disk import IGNORED, IGNORED_WIDE, dtype_of, ignored_in

SPLITS = ("validation", "test")
"""Thresholds are chosen on the first; scores are reported on the second."""
ALL = "all"
"""Every picture at once, where a paper reports a set as a whole and its thresholds come from elsewhere."""
NEAR = 6.0
"""The largest mean difference, of 255, between thumbnails of one picture generated on two machines; those of
two seeds differ by 40."""


@dataclass(frozen=True, eq=False)
class Example:
    """One picture and its labels.

    `labels` (h, w) uint8: 0 is the background, k the class `classes[k - 1]` of its data set, 255 does not
    count. In a set of more than 254 classes they are uint16, and 65535 does not count.
    `image`: the picture, of the same size; None where the model generates it, from `prompt` and `seed`.
    `prompt`: what the picture was generated from, or a caption; None where there is none.
    `named`: the labels of the classes that the prompt names, in this or another word; None where all count.
    Scores are given twice: with the pixels of other classes as background, and without them.
    """

    name: str
    labels: np.ndarray
    image: Image.Image | None = None
    prompt: str | None = None
    seed: int | None = None
    named: tuple[int, ...] | None = None

    def present(self) -> list[int]:
        """The labels of the classes that it shows and, where that is known, its prompt names; in order."""
        return [label for label in self.shown() if self.named is None or label in self.named]

    def unnamed(self) -> list[int]:
        """The labels of the classes that it shows and its prompt does not name."""
        return [label for label in self.shown() if self.named is not None and label not in self.named]

    def shown(self) -> list[int]:
        """The labels of all classes that it shows, in order."""
        ignored = IGNORED_WIDE if self.labels.dtype == np.uint16 else IGNORED
        return [int(label) for label in np.unique(self.labels) if label not in (0, ignored)]


class Data:
    """A split of a data set: a sequence of examples, read one at a time.

        data = load_data("voc", split="test", root="data/VOCdevkit")
        data.names[0], data[0].labels, data.classes

    Subclasses set `classes`; `names`, which are unique and do not depend on what was read before; and
    `truth`, a few words on where the labels come from. They define `read`, and `source` where the labels lie
    in files. `splits`: those that the set has. `ask`, `words`: how its authors ask for a class, see
    `question`. `like`: which of the OVAM authors' sets it is like, one object of a plain prompt or free
    captions: the paper's values for that one then apply. `even_missing`: whether a class that the prompt
    names is asked for even where it is not shown. `spoken`: class → the word that DiffSegmenter's authors ask
    for it by. `noise`: the devices whose random numbers the
    pictures' seeds may stand for, most likely first: "cpu", whose numbers are the same everywhere, "cuda" or
    "mps"; of several, the first whose picture passes `verify`. `steps`, `guidance`: with how many denoising
    steps and which guidance scale a picture is generated from its prompt and seed.
    """

    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    truth: str = "annotated by people"
    splits: tuple[str, ...] = SPLITS
    ask: str = "a photograph of {a} {name}"
    words: Mapping[str, str] = {}
    noise: tuple[str, ...] = ("cpu",)
    steps: int = 30
    guidance: float = 7.5
    like: str = "ovam-voc-sim"
    even_missing: bool = False
    spoken: Mapping[str, str] = {}

    def question(self, name: str) -> tuple[str, str]:
        """How a class is asked for by words: a text, and the word or phrase in it whose map is the answer.

            text, word = data.question("dining table")      # "a photograph of a dining table", "dining table"
            heat = trace.maps(text)[word]

        The word is that of `words`, or else the class's whole name, whose map is the mean over its tokens.
        The text is `ask`, in which {name} stands for the class, {word} for that word, and {a} for "a" or
        "an", whichever the class's name takes. A token needs neither.
        """
        word = self.words.get(name, name)
        return self.ask.format(a=with_article(name).partition(" ")[0], name=name, word=word), word

    def read(self, index: int) -> Example:
        """Example `index` from wherever it lies."""
        raise NotImplementedError

    def source(self, index: int) -> Path | None:
        """The file that holds the labels of example `index`, for errors to name; None without one."""
        return None

    def picture(self, index: int) -> Image.Image | None:
        """The picture of example `index`, also where it has no labels; None where the model generates it."""
        return self.read(index).image

    def labelled(self, index: int) -> bool:
        """Whether the labels of example `index` are there, pixel by pixel."""
        return (source := self.source(index)) is None or source.exists()

    def shown(self, index: int) -> list[int]:
        """The labels of the classes that example `index` shows: all that weak supervision knows of it."""
        return self[index].present()

    def seen(self, index: int) -> np.ndarray | None:
        """The `thumbnail` of the picture that was labelled; None where none is known."""
        image = self.read(index).image
        return None if image is None else thumbnail(image)

    def verify(self, index: int, image: Image.Image) -> None:
        """ValueError unless a picture that was generated again is the one that was labelled."""
        seen = self.seen(index)
        if seen is not None and np.abs(thumbnail(image) - seen).mean() > NEAR:
            raise ValueError(
                f"The model drew another picture for '{self.names[index]}' than the one that was labelled: "
                "these labels belong to another model, scheduler, size or number of steps. Give the pictures "
                "as a data set `folder` without seeds, and they are looked at instead of drawn."
            )

    def content_hash(self, indices: Sequence[int]) -> str:
        """A hash of the contents of these examples, which are all read: 12 hexadecimal digits."""
        known: dict[tuple[int, ...], str] = self.__dict__.setdefault("_hashes", {})
        if (key := tuple(indices)) not in known:
            digest = hashlib.sha256()
            for index in key:
                example = self[index]
                told = (example.prompt, example.seed, example.labels.shape)
                digest.update(repr(told if example.named is None else (*told, example.named)).encode())
                digest.update(np.ascontiguousarray(example.labels).tobytes())
                if example.image is not None:
                    digest.update(example.image.tobytes())
            known[key] = digest.hexdigest()[:12]
        return known[key]

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self.names):
            raise IndexError(f"There is no example {index}: the split has {len(self)}.")
        example = self.read(index)
        check(example, self.classes, self.source(index))
        return replace(example, labels=example.labels.astype(dtype_of(len(self.classes)), copy=False))

    def __len__(self) -> int:
        return len(self.names)


def check(example: Example, classes: tuple[str, ...], source: Path | None = None) -> None:
    """ValueError where an example's labels do not fit its image, or stand for no class.

    `source`: the file of the labels, which the error then names instead of the example.
    """
    labels, name = example.labels, source or example.name
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"'{name}': labels are whole numbers of shape (h, w), not {labels.dtype} {labels.shape}."
        )
    if example.image is not None and example.image.size != labels.shape[::-1]:
        w, h = example.image.size
        raise ValueError(
            f"'{name}': the image has {h}×{w} pixels, its labels {labels.shape[0]}×{labels.shape[1]}: "
            "give labels of the image's own size."
        )
    ignored = ignored_in(len(classes))
    wrong = sorted({int(v) for v in np.unique(labels)} - {*range(len(classes) + 1), ignored})
    if wrong:
        raise ValueError(
            f"'{name}': the labels {wrong[:5]} mean nothing: 0 is the background, 1 to {len(classes)} "
            f"are the classes, {ignored} does not count."
        )


def thumbnail(image: Image.Image) -> np.ndarray:
    """The mean colours of 4×4 parts of the image, (48,), in 0 to 255."""
    return np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), float).ravel()


def require_names(names: Iterable[str]) -> None:
    """ValueError for a name that would put a file of results outside their folder."""
    for name in names:
        for path in (PurePosixPath(name), PureWindowsPath(name)):  # results travel between systems
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(
                    f"'{name}' cannot be the name of a picture, since it leads out of the folder: give the "
                    "names of files, without their endings."
                )


def split_by_name(names: list[str], split: str, share: int = 4) -> list[str]:
    """The names that belong to `split`, for a data set without splits of its own.

    One in `share` is for validation, by a hash of the name, so that an added example moves no other. Raises
    ValueError where the split is empty.
    """
    chosen = [
        name for name in sorted(names) if (crc32(name.encode()) % share == 0) == (split == "validation")
    ]
    if not chosen:
        raise ValueError(f"The {split} split is empty: of {len(names)} examples none falls into it.")
    return chosen
