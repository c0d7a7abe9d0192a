"""What `Trace.words_at` is asked, a place and words, and what it answers: words in order."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import checks


@dataclass(frozen=True)
class RankedWords:
    """The words of a dictionary, the best for a place first.

        found = trace.words_at((64, 40))
        found.words, found.shares           # the first twenty, and their shares of the attention, 0 to 1
        for word, share in found: ...
        found.rank("cat"), found["cat"]     # of any word of the dictionary: its rank from 1, its share

    Together in one softmax, the shares of all words sum to less than 1: the rest is the start token's and
    that of the words around. `usual`: the same words' shares, on average over the whole picture; () where
    the order does not take them into account.
    """

    everything: tuple[str, ...] = field(repr=False)  # the whole dictionary, best first
    values: Tensor = field(repr=False)  # (word,), the shares of `everything`
    means: Tensor | None = field(repr=False, default=None)  # (word,), the same over the whole picture
    count: int = 20

    @property
    def words(self) -> tuple[str, ...]:
        """The first `count` words."""
        return self.everything[: self.count]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each of `words`, its share of the attention of this place."""
        return tuple(self.values[: self.count].tolist())

    @property
    def usual(self) -> tuple[float, ...]:
        """Of each of `words`, its mean share over the whole picture."""
        return () if self.means is None else tuple(self.means[: self.count].tolist())

    def rank(self, word: str) -> int:
        """Of any word of the dictionary, counted from 1. KeyError, with words like it, for another."""
        if word in self.everything:
            return self.everything.index(word) + 1
        near = difflib.get_close_matches(word, self.everything, n=3) if isinstance(word, str) else []
        hint = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
        raise KeyError(f"The dictionary has no word {checks.shown(word)}{hint}")

    def __getitem__(self, word: str) -> float:
        return self.values[self.rank(word) - 1].item()

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return zip(self.words, self.shares, strict=True)

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        width = max(map(len, self.words))
        beside = [f"  (picture {mean:.2%})" for mean in self.usual] or [""] * len(self)
        rows = [f"  {i:>3} {word:<{width}} {share:7.2%}" for i, (word, share) in enumerate(self, 1)]
        head = f"RankedWords: {len(self)} of {len(self.everything)}, by their share of attention"
        return "\n".join([head, *(row + more for row, more in zip(rows, beside, strict=True))])


def as_place(place, image_size: tuple[int, int] | None) -> Tensor:
    """A pixel (y, x) of the image, or a mask, as (h, w) bool.

    Raises ValueError for a pixel outside the image and for a mask that is empty or has other proportions than
    the image, TypeError for what is neither.
    """
    if isinstance(place, tuple | list) and len(place) == 2 and not any(map(checks.is_list, place)):
        if image_size is None:
            raise ValueError("This trace does not know the size of its image in pixels: give a mask (h, w).")
        y, x = (
            checks.whole(name, value, 0, side - 1)
            for name, value, side in zip("yx", place, image_size, strict=True)
        )
        mask = torch.zeros(image_size, dtype=torch.bool)
        mask[y, x] = True
        return mask
    mask = checks.tensor("A place", place, "(h, w), or a pixel (y, x)").detach().cpu()
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise TypeError(
            f"A place is a pixel (y, x), or a mask (h, w) of True and False, not {checks.shown(place)}."
        )
    if not mask.any():
        raise ValueError("The mask is empty: mark at least one pixel.")
    (h, w), (ideal_h, ideal_w) = mask.shape, image_size or mask.shape
    if abs(h * ideal_w / w - ideal_h) > max(1.0, ideal_w / w):
        raise ValueError(
            f"The mask is {h}×{w} (height × width), the image {ideal_h}×{ideal_w}: give one like it."
        )
    return mask


def as_words(vocabulary) -> tuple[str, ...]:
    """A list of words. ValueError for one that is empty or given twice, TypeError for what holds no words."""
    words = checks.entries("vocabulary", vocabulary, "words, such as ['cat', 'car']")
    words = [checks.instance("Each of the words", word, str, "a word").strip() for word in words]
    words = tuple(unicodedata.normalize("NFC", word) for word in words)
    if not words or not all(words):
        raise ValueError("The vocabulary is empty, or a word of it is: give some, such as ['cat', 'car'].")
    if twice := [word for word, times in Counter(words).items() if times > 1]:
        raise ValueError(f"Given twice in the vocabulary: {', '.join(twice[:5])}.")
    return words


def in_template(template) -> list[str]:
    """What stands before and after the {} of a template; ValueError where there is not one {}."""
    parts = checks.instance("template", template, str, "a text with {} in the place of the word").split("{}")
    if len(parts) != 2:
        raise ValueError(
            f"template is a text with one {{}} in the place of the word, not {checks.shown(template)}."
        )
    return parts
