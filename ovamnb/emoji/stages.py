"""The three stages in which the bundled model sees its scenes: the canvas grows, the objects do not.

    STAGES["small"].compose(np.random.default_rng(7))   # one object of 44 to 62 pixels on 64×64

A small canvas costs a quarter of a large one, but only if an object keeps its size in pixels does what is
learnt there hold for the large one: an object that shrinks with its canvas is a few latents wide, too few
for a shape. Captions tell nearly everything at first, so that little is left to guess; in the last stage as
much as captions do elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scenes import Scene, scene
from .words import Telling

SIDES = ((52, 84), (46, 64), (40, 54))  # pixels: of the only object, of each of two, of each of three


@dataclass(frozen=True)
class Stage:
    """What a stage's scenes look like, and of how many of them (`pool`) a batch is drawn."""

    size: tuple[int, int]
    """(h, w) in pixels"""
    crowds: tuple[float, ...]
    """The chances of one object, of two, of three."""
    sides: tuple[tuple[float, float], ...]
    telling: Telling
    pool: int

    def compose(self, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Scene:
        """One scene of this stage; `size` in place of its own."""
        count = 1 + int(np.searchsorted(np.cumsum(self.crowds[:-1]), rng.random(), side="right"))
        return scene(rng, size=size or self.size, count=count, sides=self.sides, telling=self.telling)


STAGES = {
    "small": Stage((64, 64), (1.0,), ((44, 62),), Telling(colour=0.95, ground=0.97), pool=40_000),
    "middle": Stage((96, 96), (0.5, 0.5), SIDES, Telling(colour=0.85, ground=0.92), pool=16_000),
    "full": Stage((128, 128), (0.3, 0.4, 0.3), SIDES, Telling(), pool=8_000),
}
