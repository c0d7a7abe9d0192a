"""The files of a data set: texts, pictures, and label maps in 8 or 16 bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ..plumbing.files import whole

IGNORED, IGNORED_WIDE = 255, 65535
"""The label of pixels that do not count: the first in label maps of 8 bits, which hold up to 254 classes, the
second in those of 16 bits, for up to 65534. See `ignored_in`."""


def ignored_in(classes: int) -> int:
    """The label of pixels that do not count in a set of so many classes: 255, or 65535 beyond 254 classes."""
    return int(np.iinfo(dtype_of(classes)).max)


def dtype_of(classes: int) -> type[np.uint8] | type[np.uint16]:
    """The dtype of the labels of so many classes; ValueError for more than 65534."""
    if classes >= IGNORED_WIDE:
        raise ValueError(f"A label map holds at most {IGNORED_WIDE - 1} classes, not {classes}.")
    return np.uint8 if classes < IGNORED else np.uint16


def require(path: Path, what: str) -> Path:
    """The path; FileNotFoundError where it is not there. `what` says where to get it and where to put it."""
    if not path.exists():
        raise FileNotFoundError(f"'{path}' is not there: {what}")
    return path


def read_text(path: Path, what: str) -> str:
    """The text of a file; FileNotFoundError as `require`, ValueError where it is not in UTF-8."""
    try:
        return require(path, what).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is no text in UTF-8 ({error.reason}): save it as such.") from None


def read_lines(path: Path, what: str) -> tuple[str, ...]:
    """The lines of a text file, stripped, without the empty ones; ValueError where one comes twice."""
    lines = [line for line in map(str.strip, read_text(path, what).splitlines()) if line]
    for line, times in Counter(lines).items():
        if times > 1:
            raise ValueError(f"'{path}' names '{line}' more than once: leave one.")
    return tuple(lines)


def read_image(path: Path, what: str) -> Image.Image:
    """A picture from a file, as RGB; FileNotFoundError as `require`, ValueError where it is damaged."""
    return _opened(path, what).convert("RGB")


def read_labels(path: Path, what: str, classes: int = IGNORED - 1) -> np.ndarray:
    """A label map (h, w), uint8 or, of more than 254 `classes`, uint16, from a PNG.

    The file has one channel of 8 or 16 bits, or a palette, whose colours do not matter. What does not count
    is 255 in 8 bits and 65535 in 16, whatever the number of classes, and 255 or 65535 in the result by that
    number (`ignored_in`). Raises FileNotFoundError as `require`, and ValueError where the file is damaged or
    has no such labels.
    """
    image = _opened(path, what)
    if image.mode not in ("1", "L", "P", "I;16"):
        raise ValueError(
            f"'{path}' holds no labels but {image.mode} pixels: save the number of each pixel's class in one "
            f"channel of 8 or 16 bits, or as the index into a palette."
        )
    labels = np.array(image, dtype=np.uint16 if image.mode == "I;16" else np.uint8)
    wanted, there = dtype_of(classes), np.iinfo(labels.dtype).max
    if labels.dtype == wanted:
        return labels
    counts = labels != there
    if (wrong := np.unique(labels[counts & (labels > classes)])[:5]).size:
        raise ValueError(
            f"'{path}': the labels {wrong.tolist()} mean nothing: 0 is the background, 1 to {classes} are "
            f"the classes, {there} does not count in {8 * labels.itemsize} bits."
        )
    found = labels.astype(wanted)
    found[~counts] = ignored_in(classes)
    return found


def label_image(labels: np.ndarray) -> Image.Image:
    """A label map (h, w) as a picture to write: uint8 in VOC's colours, uint16 in 16 bits of grey."""
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(voc_palette())
    return image


def write_png(image: Image.Image, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    with whole(path, make_folder=True) as partial:
        image.save(partial, format="png")


def voc_palette() -> list[int]:
    """VOC's 256 colours, red, green, blue of each in turn: bit i of a label's three lowest goes to the
    highest free bit of a colour, then its next three."""
    colours = np.zeros((256, 3), dtype=int)
    labels = np.arange(256)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * place + channel)) & 1) << (7 - place)
    return colours.ravel().tolist()


def _opened(path: Path, what: str) -> Image.Image:
    try:
        with Image.open(require(path, what)) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # Pillow says SyntaxError of a broken PNG
        raise ValueError(f"'{path}' cannot be read as a picture ({error}): copy or unpack it anew.") from None
