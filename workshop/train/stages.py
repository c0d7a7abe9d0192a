"""The three stages in which the bundled model sees its scenes: the canvas grows, the objects do not. And
the plans, how long it sees those of each.

    STAGES["small"].compose(np.random.default_rng(7))   # one object of 44 to 62 pixels on 64×64

A small canvas costs a quarter of a large one, but only if an object keeps its size in pixels does what is
learnt there hold for the large one: an object that shrinks with its canvas is a few latents wide, too few
for a shape. Captions tell nearly everything at first, so that little is left to guess; in the last stage as
much as captions do elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovamnb.emoji.scenes import Scene, scene
from ovamnb.emoji.words import Telling

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


@dataclass(frozen=True)
class Schedule:
    """How long to train; scenes seen = steps × batch."""

    vae_steps: int
    vae_batch: int
    decoder_steps: int
    small_steps: int
    small_batch: int
    middle_steps: int
    middle_batch: int
    full_steps: int
    full_batch: int
    learning_rate: float
    seed: int = 0
    workers: int = 0

    @property
    def phases(self) -> list[tuple[Stage, int, int]]:
        """(stage, steps, batch), in order."""
        return [
            (stage, getattr(self, f"{name}_steps"), getattr(self, f"{name}_batch"))
            for name, stage in STAGES.items()
        ]


SCHEDULES = {
    "cpu": Schedule(16_000, 8, 8_000, 30_000, 32, 4_000, 16, 6_000, 16, 1e-3),  # 17 hours of one core
    # Eleven minutes of an H200 and 16 cores, by what it did: 20 steps/s of the VAE's pictures (as many as
    # fourteen workers render), 28.7 of the UNet's at 64×64, 22 at 96×96, 17 at 128×128. Each of these steps
    # is one CUDA graph (`workshop.train.replay`): called kernel by kernel, all of them went at 12 steps/s.
    "gpu": Schedule(4_500, 128, 2_000, 4_700, 512, 1_400, 256, 2_700, 256, 1.5e-3, workers=14),
    "smoke": Schedule(2, 2, 2, 2, 2, 1, 2, 1, 2, 1e-3),  # proves that every stage runs
}
