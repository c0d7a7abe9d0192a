"""What moved, and what stayed: two pictures compared inside and outside a mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..plumbing import checks
from ..plumbing.rgb import as_rgb

VISIBLE = 0.1  # of the range of a channel: a change that one sees


class Effect(NamedTuple):
    """The shares of pixels, 0 to 1, that changed inside and outside a mask."""

    inside: float
    outside: float


def changed(before, after, *, least: float = VISIBLE) -> Tensor:
    """Where two pictures differ, (h, w) bool: by at least this part of the range, in the mean of the
    channels."""
    first, second = (
        torch.from_numpy(np.asarray(as_rgb(picture)).copy()).float() for picture in (before, after)
    )
    if first.shape != second.shape:
        sizes = " and ".join(f"{h}×{w}" for h, w, _ in (first.shape, second.shape))
        raise ValueError(f"The pictures have different sizes, {sizes}: draw both at one.")
    return (first - second).abs().mean(dim=-1) / 255 >= least


def effect(before, after, mask, *, least: float = VISIBLE) -> Effect:
    """What share of the pixels inside a mask (h, w) changed, and what share outside.

        effect(cat, dog, segmentation.mask("cat"))       # Effect(inside=0.8, outside=0.1)

    Raises ValueError for pictures and a mask of different sizes, and for a mask that is empty or full.
    """
    moved, inside = changed(before, after, least=least), _as_bool(mask)
    if moved.shape != inside.shape:
        raise ValueError(
            f"The mask is {inside.shape[0]}×{inside.shape[1]} and the pictures {moved.shape[0]}×"
            f"{moved.shape[1]}: resize one by ov.resize."
        )
    if not inside.any() or inside.all():
        raise ValueError("The mask has no inside, or no outside: nothing can be compared.")
    return Effect(float(moved[inside].float().mean()), float(moved[~inside].float().mean()))


def mask_iou(first, second) -> float:
    """The intersection of two masks (h, w) over their union, 0 to 1; 1 for two that are empty."""
    first, second = map(_as_bool, (first, second))
    if first.shape != second.shape:
        raise ValueError(f"The masks have different shapes, {tuple(first.shape)} and {tuple(second.shape)}.")
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def _as_bool(mask) -> Tensor:
    """A mask (h, w) of two values on the CPU; unlike an annotation's, it may be empty or full."""
    values = checks.tensor("A mask", mask, "(h, w)").detach().cpu()
    if values.ndim != 2 or len(values.unique()) > 2:
        raise ValueError(
            f"A mask has the shape (h, w) and two values, not {checks.shown(mask)}: cut a map first."
        )
    return values > 0
