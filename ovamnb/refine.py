"""From a heat map to a mask: completion by self-attention, resizing, thresholds."""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from .plumbing import checks
from .recipe import MOST_POWER

CHANNELS = (1, 3, 4)  # of an image
ROWS_OFF_BY = 0.01  # what rounding to half precision may do to a sum of 1


def complete(heat: Tensor, affinity: Tensor, *, power: int = 1) -> Tensor:
    """M = Aᵖ · heat: every pixel takes the mean heat of the pixels it attends to, weighted by attention.

        fine = ov.complete(maps["cat"], trace.self_attention(32))

    `heat` (..., h, w); `affinity` (h·w, h·w) with rows that sum to 1, on its own grid: the heat is first
    resized to it, and the result (..., h, w) lies on it. Rows that sum to 1 keep heat between its own
    minimum and maximum. `power` p: complete p times. (DiffSegmenter, TIP 2025, arXiv 2309.02773.)

    Raises ValueError for an affinity that is not square, whose rows do not sum to 1 or whose grid cannot have
    the heat's proportions, for heat that is not finite, and for a power that is not 1 to 1000.
    """
    power = checks.whole("power", power, 1, MOST_POWER, why="counts completions")
    affinity = as_affinity(affinity)
    heat = _as_heat(heat).to(affinity)
    grid = grid_like(tuple(heat.shape[-2:]), len(affinity))
    flat = stretched(heat, grid).flatten(-2).unsqueeze(-1)  # (..., h·w, 1)
    for _ in range(power):
        flat = affinity @ flat
    return flat.squeeze(-1).unflatten(-1, grid)


def resize(heat: Tensor, image_or_size) -> Tensor:
    """Resize `heat` (..., h, w) bilinearly to an image, or to a size (h, w).

        ov.resize(heat, image)          # a PIL image, an array (h, w[, colour]), a tensor (..., h, w)
        ov.resize(heat, (480, 640))

    Pixel centres correspond as in an image (corners are not aligned). A mask becomes 0 to 1.

    Raises TypeError for what has no size, and ValueError for heat that is not finite, and for channels that
    come first in an array or last in a tensor.
    """
    return stretched(_as_heat(heat), _size_of(image_or_size))


def stretched(heat: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize` inside the package, where heat (..., h, w) and size (h, w) are known to be right."""
    flat = heat.reshape(-1, 1, *heat.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).reshape(
        *heat.shape[:-2], *size
    )


def minmax(heat: Tensor) -> Tensor:
    """Each map of (..., h, w) scaled to 0…1 on its own; a constant map becomes 0."""
    low, high = heat.amin(dim=(-2, -1), keepdim=True), heat.amax(dim=(-2, -1), keepdim=True)
    return (heat - low) / (high - low).clamp(min=1e-12)


def weigh(heat: Tensor, affinity: Tensor, *, floor: float = 0.85) -> Tensor:
    """M = heat · s, s = the attention that each pixel receives, scaled into [floor, 1].

        fine = ov.weigh(maps["cat"], trace.self_attention(32))

    `heat` (..., h, w); `affinity` (h·w, h·w) with rows that sum to 1, on its own grid; the result has the
    heat's shape. Pixel j receives the sum of column j: what many pixels attend to is an object rather than
    ground. OVAM (arXiv 2403.14291) describes this weighting, with floors of 0.85 to 0.99; its published code
    sums the rows, each of which gives 1, and stretches to that range what rounding leaves of them.

    Raises ValueError as `complete` does, and for a floor outside [0, 1].
    """
    checks.number("The floor", floor, 0, 1, why="is the smallest weight")
    affinity, heat = as_affinity(affinity), _as_heat(heat)
    grid = grid_like(tuple(heat.shape[-2:]), len(affinity))
    received = affinity.float().sum(dim=0).unflatten(-1, grid).to(heat)
    return heat * (floor + (1 - floor) * minmax(stretched(received, tuple(heat.shape[-2:]))))


def binarize(heat: Tensor, threshold: float | str = 0.4) -> Tensor:
    """Where `heat` (..., h, w) exceeds `threshold` of the way from its minimum to its maximum: a bool mask.

        mask = ov.binarize(ov.resize(maps["cat"], image), threshold=0.4)

    `threshold` lies in [0, 1), or is "otsu": the value that best separates each map into two groups
    (scikit-image), for when there is nothing to tune on. 0.4 is OVAM's for VOC, where it is a part of the
    maximum alone: the same where a map goes down to 0, but a word that gets a little attention everywhere
    would then fill the image. Each map has its own scale; a constant map gives an empty mask. Resize before,
    not after, for a smooth outline.

    Raises ValueError for a threshold out of range and for heat that is not finite.
    """
    otsu = isinstance(threshold, str) and threshold == "otsu"
    if not otsu and not (isinstance(threshold, Real) and 0 <= threshold < 1):
        raise ValueError(
            "The threshold is a part of the map's range, in [0, 1), or 'otsu', not "
            f"{checks.shown(threshold)}."
        )
    heat = _as_heat(heat)
    low, high = heat.amin(dim=(-2, -1), keepdim=True), heat.amax(dim=(-2, -1), keepdim=True)
    level = _otsu(heat) if otsu else low + threshold * (high - low)
    return heat > level


def _otsu(heat: Tensor) -> Tensor:
    """Otsu's threshold of each map: (..., h, w) → (..., 1, 1)."""
    from skimage.filters import threshold_otsu

    flat = heat.detach().cpu().reshape(-1, heat.shape[-2] * heat.shape[-1]).numpy()
    levels = [float(threshold_otsu(values)) for values in flat]
    return torch.tensor(levels).to(heat).reshape(*heat.shape[:-2], 1, 1)


def _as_heat(heat) -> Tensor:
    heat = checks.tensor("A heat map", heat, "(h, w)")
    if heat.ndim < 2:
        raise ValueError(f"A heat map has the shape (h, w), not {tuple(heat.shape)}.")
    if not heat.numel():
        raise ValueError(f"This heat map, of the shape {tuple(heat.shape)}, holds no values.")
    checks.finite("The heat map", heat)
    return heat if heat.dtype in (torch.float32, torch.float64) else heat.float()


def as_affinity(affinity) -> Tensor:
    """An affinity (h·w, h·w) whose rows sum to 1, as those of self-attention do."""
    affinity = checks.tensor("An affinity", affinity, "(h·w, h·w)")
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1] or not len(affinity):
        raise ValueError(f"An affinity has the shape (h·w, h·w), not {tuple(affinity.shape)}.")
    affinity = affinity if affinity.is_floating_point() else affinity.float()
    off = (affinity.detach().sum(dim=1, dtype=torch.float32) - 1).abs().max().item()  # or NaN
    if not off <= ROWS_OFF_BY:
        raise ValueError(
            f"An affinity's rows sum to 1, but one of these is off by {off:.2g}: take it from "
            "`trace.self_attention`, or divide by `affinity.sum(dim=1, keepdim=True)`."
        )
    return affinity


def _size_of(image_or_size) -> tuple[int, int]:
    """The (h, w) of an image, or of a size given as such."""
    if hasattr(image_or_size, "getbands"):  # PIL counts (w, h)
        w, h = image_or_size.size
        return checks.size((h, w))
    shape = tuple(getattr(image_or_size, "shape", ()))
    if len(shape) < 2:
        return checks.size(image_or_size, "an image or a size (h, w)")
    if isinstance(image_or_size, Tensor):
        # A tensor with its channels last has a last side that no picture (..., h, w) has.
        if len(shape) >= 3 and shape[-1] in CHANNELS and min(shape[-3:-1]) >= 8:
            h, w = shape[-3:-1]
            raise ValueError(
                f"A tensor has its channels first, (…, h, w), and this one {shape}: move them by "
                f"`.permute(2, 0, 1)`, or give the size ({h}, {w})."
            )
        return checks.size(shape[-2:])
    if len(shape) > 3 or (len(shape) == 3 and shape[2] not in CHANNELS):
        raise ValueError(
            f"An image array has the shape (h, w) or (h, w, 3), not {shape}: move its channels by "
            "`.transpose(1, 2, 0)`, or give the size (h, w)."
        )
    return checks.size(shape[:2])


def grid_like(size: tuple[int, int], count: int) -> tuple[int, int]:
    """The (h, w) with h · w = count whose proportions are those of `size`.

    A UNet rounds odd sides up when it halves them (15×21 → 8×11), so sides may be off by less than a cell.
    """
    ratio = math.sqrt(count / math.prod(size))
    h_exact, w_exact = (side * ratio for side in size)
    fits = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    h, w = min(fits, key=lambda grid: abs(grid[0] - h_exact) + abs(grid[1] - w_exact))
    if abs(h - h_exact) >= 1 or abs(w - w_exact) >= 1:
        raise ValueError(
            f"The heat map's grid is {size[0]}×{size[1]}, but no grid of these proportions has the "
            f"affinity's {count} pixels: take both from the same trace."
        )
    return h, w
