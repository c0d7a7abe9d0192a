"""Procedural grounds: what lies behind the objects, drawn anew for every scene.

    >>> ground("grass", np.random.default_rng(0), (128, 128))  # (h, w, 3) uint8

Each ground is a base colour, a pattern that makes it recognisable (blades, planks, stars) and a slow change
of light. The drawing functions work on planes, (3, h, w) float32 in [0, 255]: numpy is several times faster
along long last axes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Size = tuple[int, int]


def _smooth(rng: np.random.Generator, size: Size, cells: tuple[int, int]) -> np.ndarray:
    """(h, w) noise in [-1, 1] that varies over `cells` patches; few cells make clouds, many make grain."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR))


def _paint(base: tuple[int, int, int], *shades: np.ndarray) -> np.ndarray:
    """(3, h, w): `base` plus the shades (h, w), the same on every channel."""
    return np.asarray(base, np.float32)[:, None, None] + sum(shades)


def _grass(rng: np.random.Generator, size: Size) -> np.ndarray:
    blades = _smooth(rng, size, (max(2, size[0] // 6), size[1]))
    return _paint((86, 156, 64), 26 * blades, 12 * _smooth(rng, size, (4, 4)))


def _sand(rng: np.random.Generator, size: Size) -> np.ndarray:
    y = np.linspace(0, rng.uniform(8, 16) * np.pi, size[0], dtype=np.float32)[:, None]
    dunes = np.sin(y + 2 * _smooth(rng, size, (3, 5)))
    return _paint((224, 196, 142), 9 * dunes, 8 * rng.uniform(-1, 1, size).astype(np.float32))


def _snow(rng: np.random.Generator, size: Size) -> np.ndarray:
    return _paint((232, 239, 248), 12 * _smooth(rng, size, (4, 4)), 4 * _smooth(rng, size, (32, 32)))


def _water(rng: np.random.Generator, size: Size) -> np.ndarray:
    y = np.linspace(0, rng.uniform(14, 22) * np.pi, size[0], dtype=np.float32)[:, None]
    waves = np.sin(y + 3 * _smooth(rng, size, (4, 8)))
    return _paint((36, 120, 184), 22 * waves, 8 * _smooth(rng, size, (4, 4)))


def _sky(rng: np.random.Generator, size: Size) -> np.ndarray:
    clouds = np.clip(_smooth(rng, size, (5, 4)) + 0.4 * _smooth(rng, size, (12, 9)) - 0.15, 0, 1)
    height = np.linspace(0, 1, size[0], dtype=np.float32)[:, None]
    blue = np.stack([104 + 70 * height, 176 + 44 * height, 238 + 10 * height])  # (3, h, 1)
    return blue * (1 - clouds) + 250 * clouds


def _night(rng: np.random.Generator, size: Size) -> np.ndarray:
    dark = _paint((20, 24, 58), 8 * _smooth(rng, size, (3, 3)))
    count = max(4, size[0] * size[1] // 400)
    dark[:, rng.integers(0, size[0], count), rng.integers(0, size[1], count)] = rng.uniform(120, 240, count)
    return dark


def _brick(rng: np.random.Generator, size: Size) -> np.ndarray:
    high = max(4, round(min(size) / rng.uniform(10, 13)))
    wide = 2 * high
    y, x = np.arange(size[0])[:, None], np.arange(size[1])[None]
    row = y // high
    shifted = x + (row % 2) * high + int(rng.integers(wide))
    tone = rng.uniform(-1, 1, (size[0] // high + 1, size[1] // wide + 4)).astype(np.float32)
    wall = _paint((176, 84, 62), 18 * tone[row, shifted // wide], 6 * _smooth(rng, size, (32, 32)))
    gap = max(1, high // 6)
    mortar = (y % high < gap) | (shifted % wide < gap)
    for plane, grey in zip(wall, (208, 200, 190), strict=True):
        plane[mortar] = grey
    return wall


def _wood(rng: np.random.Generator, size: Size) -> np.ndarray:
    board = max(6, round(size[0] / rng.uniform(5, 7)))
    y = np.arange(size[0])[:, None]
    tone = rng.uniform(-1, 1, size[0] // board + 1).astype(np.float32)[y // board]
    grain = _smooth(rng, size, (size[0], max(2, size[1] // 32)))
    floor = _paint((172, 122, 74), 14 * tone, 14 * grain)
    floor[:, (y % board < 1)[:, 0]] *= 0.55
    return floor


_DRAW: dict[str, Callable[[np.random.Generator, Size], np.ndarray]] = {
    "grass": _grass,
    "sand": _sand,
    "snow": _snow,
    "water": _water,
    "sky": _sky,
    "night": _night,
    "brick": _brick,
    "wood": _wood,
}
GROUNDS = tuple(_DRAW)


def ground(name: str, rng: np.random.Generator, size: Size) -> np.ndarray:
    """(h, w, 3) uint8; brightness varies by ±6 % from scene to scene."""
    planes = _DRAW[name](rng, size) * np.float32(rng.uniform(0.94, 1.06))
    red, green, blue = planes.clip(0, 255, out=planes).astype(np.uint8)
    return np.asarray(Image.merge("RGB", [Image.fromarray(plane) for plane in (red, green, blue)]))
