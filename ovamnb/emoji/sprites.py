"""Sprites: small emoji pictures with an alpha channel, in three art styles and, where it makes sense, in
several colours; and in a fourth style, which nothing is trained on.

>>> sprite("cat", "google")          # (64, 64, 4) uint8, straight alpha
>>> sprite("car", "twitter", "blue") # the same car, painted
>>> sprite("cat", "openmoji")        # a cat such as no model here has met
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

SHEET = Path(__file__).parents[1] / "assets" / "sprites" / "sprites.png"
STYLES = ("fluent", "google", "twitter")
UNSEEN_SHEET = SHEET.with_name("unseen.png")
UNSEEN = ("openmoji",)
"""Styles to test with: who names no style, as all that is trained, gets none of these. Their sheet is a file
of its own, because its licence is another."""
TILE = 64

# concept -> emoji code point; the first nineteen are Pascal VOC's classes (there is no emoji for a dining
# table)
CODE_POINTS = {
    "aeroplane": "2708-fe0f",
    "bicycle": "1f6b2",
    "bird": "1f426",
    "boat": "26f5",
    "bottle": "1f37e",
    "bus": "1f68c",
    "car": "1f697",
    "cat": "1f408",
    "chair": "1fa91",
    "cow": "1f404",
    "dog": "1f415",
    "horse": "1f40e",
    "motorbike": "1f3cd-fe0f",
    "person": "1f9cd",
    "potted plant": "1fab4",
    "sheep": "1f411",
    "sofa": "1f6cb-fe0f",
    "train": "1f682",
    "tv": "1f4fa",
    "tree": "1f333",
    "house": "1f3e0",
    "ball": "26bd",
    "apple": "1f34e",
    "flower": "1f337",
    "umbrella": "2602-fe0f",
    "fish": "1f41f",
    "elephant": "1f418",
    "guitar": "1f3b8",
}
CONCEPTS = tuple(CODE_POINTS)

# The colour a sprite is drawn in, for concepts where all of STYLES agree (OpenMoji's chair is yellow);
# "paintable" ones get their colour from PAINTS.
NATURAL_COLOUR = {
    "apple": "red",
    "bottle": "green",
    "cat": "orange",
    "chair": "brown",
    "elephant": "grey",
    "horse": "brown",
    "sheep": "white",
    "tree": "green",
}
PAINTABLE = ("bicycle", "bird", "car", "fish", "guitar", "motorbike", "sofa", "umbrella")
PAINTS = {"red": 0.98, "yellow": 0.13, "green": 0.36, "blue": 0.58, "purple": 0.77}  # hue in [0, 1)


@cache
def _sheet(path: Path) -> np.ndarray:
    """(style·tile, concept·tile, 4) uint8: one row of tiles per style, one column per concept."""
    return np.asarray(Image.open(path).convert("RGBA"))


@cache
def sprite(concept: str, style: str, colour: str | None = None) -> np.ndarray:
    """(64, 64, 4) uint8 with straight alpha, in a style of STYLES or UNSEEN; `colour` paints it, PAINTABLE
    concepts only."""
    path, styles = (UNSEEN_SHEET, UNSEEN) if style in UNSEEN else (SHEET, STYLES)
    row, column = styles.index(style), CONCEPTS.index(concept)
    tile = _sheet(path)[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
    return tile if colour is None else paint(tile, PAINTS[colour])


def paint(rgba: np.ndarray, hue: float) -> np.ndarray:
    """Turn the sprite's dominant hue into `hue`; tyres, windows and outlines stay as they are.

    rgba (h, w, 4) uint8 → the same shape. The dominant hue is the fullest of 24 bins among opaque,
    saturated pixels.
    """
    hsv = np.asarray(Image.fromarray(rgba[..., :3]).convert("HSV")).astype(np.float32) / 255
    vivid = (rgba[..., 3] > 128) & (hsv[..., 1] > 0.3) & (hsv[..., 2] > 0.25)
    counts, edges = np.histogram(hsv[..., 0][vivid], bins=24, range=(0, 1), weights=hsv[..., 1][vivid])
    dominant = (edges[counts.argmax()] + edges[counts.argmax() + 1]) / 2
    distance = np.abs((hsv[..., 0] - dominant + 0.5) % 1 - 0.5)  # hue is a circle
    near = (distance < 0.12) & (hsv[..., 1] > 0.15)
    hsv[..., 0] = np.where(near, (hsv[..., 0] - dominant + hue) % 1, hsv[..., 0])
    painted = Image.fromarray((hsv * 255).round().astype(np.uint8), mode="HSV").convert("RGB")
    return np.dstack([np.asarray(painted), rgba[..., 3]])
