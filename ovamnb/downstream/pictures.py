"""Pictures of any sizes as randomly varied batches of one size.

    samples = [sample(example, size=(128, 128)) for example in data]
    images, labels = drawn([samples], step=0, batch=16, size=(128, 128), seed=0)

Batch number i depends on the seed and on i alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.base import Example
from ..data.on_disk import IGNORED

ZOOM = (0.85, 1.2)
"""The range of scales in training: at 1 a picture just fits in; more crops it; less leaves a margin, which
does not count."""
COLOUR = 0.1
"""The largest change of brightness (in half its range), contrast and saturation (relative)."""

Sample = tuple[Tensor, Tensor]
"""image (3, h, w) uint8, labels (h, w) uint8."""


def fitting(own: tuple[int, int], size: tuple[int, int]) -> float:
    """The factor that scales a picture of `own` (h, w) pixels to fit into `size` (h, w)."""
    return min(size[0] / own[0], size[1] / own[1])


def resized(image: Image.Image, factor: float) -> Image.Image:
    """The picture with both sides times `factor`, in RGB."""
    w, h = (max(1, round(side * factor)) for side in image.size)
    return image.convert("RGB").resize((w, h), Image.Resampling.BICUBIC)


def sample(example: Example, size: tuple[int, int]) -> Sample:
    """Image (3, h, w) and labels (h, w) of an example, no larger than `ZOOM` ever needs.

    Large photographs are reduced here, once and by a filter that averages; `varied` only interpolates.
    """
    factor = min(1.0, ZOOM[1] * fitting(example.labels.shape, size))
    image = resized(example.image, factor)
    labels = Image.fromarray(example.labels.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.from_numpy(np.array(labels))


def pixels(image: Tensor) -> Tensor:
    """uint8 → float32 in [-1, 1]."""
    return image.float() / 127.5 - 1


def drawn(
    pools: Sequence[Sequence[Sample]], step: int, *, batch: int, size: tuple[int, int], seed: int
) -> tuple[Tensor, Tensor]:
    """Batch number `step`: images (batch, 3, h, w) in about [-1, 1], labels (batch, h, w) int64.

    The pools take turns, whatever their sizes; within a pool every sample is equally likely.
    """
    rng = np.random.default_rng((seed, step))
    pairs = []
    for turn in range(step * batch, (step + 1) * batch):
        pool = pools[turn % len(pools)]
        pairs.append(varied(*pool[rng.integers(len(pool))], size, rng))
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    return images, labels


def varied(image: Tensor, labels: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A random view of a sample: image (3, h, w) float32, labels (h, w) int64, both of `size`.

    Mirrored or not, at a random scale in ZOOM and a random place; brightness, contrast and saturation vary.
    Whatever lies outside the picture is labelled 255.
    """
    number, mirror, across, down, *colour = rng.random(7).tolist()
    low, high = map(math.log, ZOOM)
    factor = fitting(labels.shape, size) * math.exp(low + (high - low) * number)
    # The visible share of the picture, and the middle of the view, in affine_grid's -1 to 1.
    visible = [side / (factor * own) for side, own in zip(size, labels.shape, strict=True)]
    middle = [(2 * place - 1) * abs(1 - part) for place, part in zip((down, across), visible, strict=True)]
    flip = -1 if mirror < 0.5 else 1
    theta = torch.tensor([[[flip * visible[1], 0, middle[1]], [0, visible[0], middle[0]]]])
    grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)
    view = F.grid_sample(pixels(image)[None], grid, align_corners=False)[0]
    # Outside is 0: labels are one higher while they are sampled, so that 0 is no label.
    shifted = F.grid_sample(labels[None, None].float() + 1, grid, mode="nearest", align_corners=False)[0, 0]
    found = torch.where(shifted > 0, shifted - 1, IGNORED).long()
    return coloured(view, *(COLOUR * (2 * value - 1) for value in colour)), found


def coloured(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """image (3, h, w) in [-1, 1], changed by these amounts; 0 changes nothing."""
    grey = image.mean(dim=0, keepdim=True)
    return (grey + (1 + saturation) * (image - grey)) * (1 + contrast) + brightness
