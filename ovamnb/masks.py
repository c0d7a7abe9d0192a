"""Masks: where an object is, as an annotation says. Read, checked, drawn from corners."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .choose import Grid, show_grid


def as_mask(mask) -> Tensor:
    """A mask (h, w) bool from an array, a tensor or a PIL image of two values, 0 and another.

    Raises ValueError for another shape, for more than two values, and for a mask that is empty or full.
    """
    if isinstance(mask, Image.Image):
        mask = np.asarray(mask.convert("L") if mask.mode not in ("1", "L", "P") else mask)
    values = torch.from_numpy(np.array(mask.cpu() if isinstance(mask, Tensor) else mask))
    if values.ndim != 2:
        raise ValueError(f"A mask has the shape (h, w), not {tuple(values.shape)}: of several, take one.")
    found = values.unique()
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        few = ", ".join(f"{value:g}" for value in found[:4].tolist())
        raise ValueError(
            f"A mask holds 0 and one other value, not {len(found)} values ({few}, …): choose one class by "
            "`labels == 3`, or cut grey values by `grey > 127`."
        )
    values = values != 0
    if not values.any():
        raise ValueError("The mask is empty: mark the pixels of the object.")
    if values.all():
        raise ValueError(
            "The mask covers the whole image: a token learns from what is *not* the object, too."
        )
    return values


def fitted(mask: Tensor, image_size: Grid | None, grid: Grid) -> Tensor:
    """The mask (h, w) at the image's size; resized with a note where it has another.

    `image_size`: None where it is unknown, and any size of the grid's proportions will do. Raises ValueError
    for other proportions than the image's.
    """
    h, w = mask.shape
    ideal_h, ideal_w = image_size or grid
    # At the ideal width the mask would be as high as the image, to within one pixel of the coarser of both.
    if abs(h * ideal_w / w - ideal_h) > max(1.0, ideal_w / w):
        raise ValueError(
            f"The mask is {show_grid((h, w))} (height × width), the image {show_grid((ideal_h, ideal_w))}: "
            "annotate the image as it is, uncropped."
        )
    if image_size is None or (h, w) == tuple(image_size):
        return mask
    warnings.warn(
        f"The mask is {show_grid((h, w))}: resized to the image's {show_grid(image_size)}.", stacklevel=4
    )
    resized = Image.fromarray(mask.numpy()).resize((ideal_w, ideal_h), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized))


def load_mask(path: str | Path) -> Tensor:
    """Read a mask (h, w) bool from an image file: what is not black, or not transparent, is the object.

    Raises FileNotFoundError where there is no file, and ValueError as `as_mask` does.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no mask at '{path}'.")
    with Image.open(path) as image:
        # Paint programs save a transparent canvas with the object on it.
        return as_mask(image.getchannel("A") if image.mode in ("LA", "RGBA") else image)


def save_mask(mask, path: str | Path) -> None:
    """Write a mask as a PNG image of two values, for `load_mask`."""
    Image.fromarray(as_mask(mask).numpy()).save(path)


def polygon_mask(size: Grid, corners: Sequence[tuple[float, float]]) -> Tensor:
    """The pixels inside a polygon: `size` (h, w), `corners` (x, y) in pixels → (h, w) bool.

        mask = ov.polygon_mask((128, 128), [(40, 52), (88, 50), (90, 96), (38, 97)])

    By scikit-image. Raises ValueError for fewer than three corners, and as `as_mask` does.
    """
    from skimage.draw import polygon2mask

    if len(corners) < 3:
        raise ValueError(f"A polygon has three corners or more, not {len(corners)}.")
    return as_mask(polygon2mask(size, [(y, x) for x, y in corners]))
