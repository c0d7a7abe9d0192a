"""Recordings of rendered scenes, each noised at several timesteps, always with the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from ..images import encode_image, encode_prompts, noised, observe
from ..trace import Trace
from .scenes import Scene

NOISE_STEPS = (150, 300, 450, 600)


def traces(pipe, pictures: Sequence[Scene], batch: int = 20) -> Iterator[tuple[Scene, Trace, int]]:
    """(scene, trace, index of its image in the trace); every scene is noised at NOISE_STEPS, always with
    the same noise for the same `batch`."""
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        latents = torch.cat([encode_image(pipe, Image.fromarray(picture.image)) for picture in part])
        states, extra = encode_prompts(pipe, [picture.caption for picture in part], latents)
        noisy = noised(pipe, latents, NOISE_STEPS, samples=1, seed=start)
        trace = observe(pipe, noisy, states, extra, dtype=torch.float32)
        yield from ((picture, trace, i) for i, picture in enumerate(part))
