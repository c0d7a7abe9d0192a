"""Scenes of emoji with exact masks: the data that the bundled model is trained on and measured with.

>>> picture = scene(7)
>>> picture.caption
'a cat and a red car on grass'
>>> picture.image.shape, picture.labels.shape   # (h, w, 3) uint8, (h, w) uint8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from . import words
from .grounds import GROUNDS, ground
from .sprites import CONCEPTS, NATURAL_COLOUR, PAINTABLE, PAINTS, STYLES, UNSEEN, sprite

MAX_HIDDEN = 0.25  # the largest hidden share of an object: with more, its mask no longer fits its word
_TRIES = 24  # to find a free place before the object is left out
_SHARES = ((0.5, 0.8), (0.4, 0.56), (0.34, 0.46))  # an object's side over the canvas's, by their number
_WHOLE = 128  # pixels: the canvas that a smaller one is a crop of, where objects' sides are in pixels


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene: its concept, the caption's word for it, and where its visible pixels lie."""

    concept: str
    word: str
    style: str
    colour: str | None
    box: tuple[int, int, int, int]
    """left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Scene:
    """A picture with its labels: 0 for the ground and k for the concept `CONCEPTS[k - 1]`."""

    image: np.ndarray = field(repr=False)
    """(h, w, 3) uint8"""
    labels: np.ndarray = field(repr=False)
    """(h, w) uint8"""
    objects: tuple[SceneObject, ...]
    """From left to right, as in the caption."""
    ground: str
    caption: str

    def mask(self, concept: str) -> np.ndarray:
        """(h, w) bool: the visible pixels of a concept."""
        return self.labels == CONCEPTS.index(concept) + 1


def scene(
    rng: np.random.Generator | int,
    *,
    size: tuple[int, int] = (128, 128),
    count: int | None = None,
    concepts: Sequence[str] | None = None,
    ground_name: str | None = None,
    style: str | None = None,
    plain: bool = False,
    sides: Sequence[tuple[float, float]] | None = None,
    telling: words.Telling | None = None,
) -> Scene:
    """Composes one to three objects on a ground; the same seed gives the same scene.

    size: (h, w) in pixels. count: number of objects, by default one (20 %), two (50 %) or three (30 %).
    concepts: which objects, by default random ones. style: one art style for all objects, by default
    each its own, of those that the models here are trained on.
    plain: the caption uses class names only, no colours, synonyms or hypernyms. An object that finds no
    place where at least 75 % of everything stays visible is left out of picture and caption.
    sides: the smallest and the largest side in pixels of the only object, of each of two, of each of three,
    by default shares of the canvas. With it the ground, too, is as large as on 128×128 pixels: a small
    canvas shows a crop of a large one.
    telling: how much the caption tells; with it, all objects are of one style, and the caption's opening
    names that style or none.

    Raises ValueError for `telling` with an UNSEEN style, for which captions have no words.
    """
    if telling is not None and style in UNSEEN:
        raise ValueError(f"No caption tells of '{style}': leave out `telling`, or give one of {STYLES}.")
    rng = np.random.default_rng(rng)
    if concepts is None:
        count = int(rng.choice((1, 2, 3), p=(0.2, 0.5, 0.3))) if count is None else count
        concepts = [CONCEPTS[i] for i in rng.choice(len(CONCEPTS), size=count, replace=False)]
    ground_name = words.pick(rng, GROUNDS) if ground_name is None else ground_name
    if telling is not None and style is None:
        style = words.pick(rng, STYLES)
    full = size if sides is None else (max(_WHOLE, size[0]), max(_WHOLE, size[1]))
    canvas = Image.fromarray(_crop(rng, ground(ground_name, rng, full), size))
    labels = np.zeros(size, np.uint8)
    whole = np.zeros(len(CONCEPTS) + 1, np.int64)  # each object's area before anything hid a part of it
    placed: dict[str, tuple[str, str | None]] = {}
    crowd = min(len(concepts), len(_SHARES)) - 1
    shares = _SHARES[crowd] if sides is None else tuple(min(1.0, side / min(size)) for side in sides[crowd])
    for concept in concepts:
        chosen = words.pick(rng, STYLES) if style is None else style
        colour = words.pick(rng, tuple(PAINTS)) if concept in PAINTABLE else None
        if _place(rng, canvas, labels, whole, concept, sprite(concept, chosen, colour), shares):
            natural = None if chosen in UNSEEN else NATURAL_COLOUR.get(concept)
            placed[concept] = (chosen, colour or natural)
    objects, phrases, details = [], [], telling or words.Telling()
    for concept, box in sorted(_boxes(labels, placed).items(), key=lambda item: item[1][0] + item[1][2]):
        chosen, colour = placed[concept]
        word = words.NAMES[concept][0] if plain else words.choose_word(rng, concept)
        objects.append(SceneObject(concept, word, chosen, colour, box))
        phrases.append(words.noun_phrase(rng, word, None if plain else colour, details.colour))
    named_ground = ground_name if plain or rng.random() < details.ground else None
    openings = words.PREFIXES if telling is None else words.prefixes(rng, style, details.style)
    text = words.caption(rng, phrases, named_ground, openings)
    return Scene(np.asarray(canvas), labels, tuple(objects), ground_name, text)


def _crop(rng: np.random.Generator, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (h, w, 3) itself if it is of this size, else a random crop of it."""
    if picture.shape[:2] == size:
        return picture
    top, left = (
        int(rng.integers(0, have - want + 1)) for have, want in zip(picture.shape, size, strict=False)
    )
    return picture[top : top + size[0], left : left + size[1]]


def _place(
    rng: np.random.Generator,
    canvas: Image.Image,
    labels: np.ndarray,
    whole: np.ndarray,
    concept: str,
    tile: np.ndarray,
    shares: tuple[float, float],
) -> bool:
    """Draws the sprite into canvas and labels (h, w), and notes its area in `whole`; False if no place is
    free enough. shares: the smallest and the largest side, as shares of the canvas's shorter one."""
    h, w = labels.shape
    visible = np.bincount(labels.ravel(), minlength=len(whole))
    for attempt in range(_TRIES):
        side = max(8, round(min(h, w) * rng.uniform(*shares) * (1 - attempt / (2 * _TRIES))))
        top, left = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
        under = labels[top : top + side, left : left + side]
        if not _leaves_room(visible, under, whole):
            continue
        picture = Image.fromarray(tile).resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alpha = picture.getchannel("A")
        canvas.paste(picture, (left, top), alpha)
        opaque = np.asarray(alpha) > 127
        under[opaque] = CONCEPTS.index(concept) + 1
        whole[CONCEPTS.index(concept) + 1] = np.count_nonzero(opaque)
        return True
    return False


def _leaves_room(visible: np.ndarray, under: np.ndarray, whole: np.ndarray) -> bool:
    """Would every object keep its share if the square `under` (h, w) of the label map were covered?

    visible, whole: (class + 1,) areas in pixels, now and before anything hid a part.
    """
    if not whole.any():
        return True
    left = visible - np.bincount(under.ravel(), minlength=len(whole))
    return bool((left >= (1 - MAX_HIDDEN) * whole)[1:].all())


def _boxes(
    labels: np.ndarray, concepts: dict[str, tuple[str, str | None]]
) -> dict[str, tuple[int, int, int, int]]:
    boxes = {}
    for concept in concepts:
        mask = labels == CONCEPTS.index(concept) + 1
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes[concept] = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return boxes
