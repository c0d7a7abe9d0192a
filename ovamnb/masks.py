"""Annotation masks, which say where an object is: read, checked, made from the corners of a polygon."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .plumbing import checks
from .plumbing.files import as_path, existing, whole
from .select import Grid, show_grid


def as_mask(mask) -> Tensor:
    """A mask (h, w) bool from an array, a tensor or a PIL image of two values, 0 and another.

    Raises ValueError for another shape, for more than two values, and for a mask that is empty or full.
    """
    if isinstance(mask, Image.Image):
        mask = np.array(mask.convert("L") if mask.mode not in ("1", "L", "P") else mask)
    values = checks.tensor("A mask", mask, "(h, w)").detach().cpu().clone()
    if values.ndim != 2:
        raise ValueError(f"A mask has the shape (h, w), not {tuple(values.shape)}: of several, take one.")
    checks.finite("The mask", values, "cut grey values by `grey > 127`")
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
    """The mask (h, w) at the image's size; resized, with a warning, where it has another.

    `image_size`: None where it is unknown; the mask then keeps its size, and needs the grid's proportions.
    Raises ValueError for other proportions than the image's.
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

    Raises FileNotFoundError where there is no file, and ValueError for one that is damaged or no image, and
    as `as_mask` does.
    """
    path = existing(path, "mask")
    try:
        with Image.open(path) as image:
            image.load()
            # Paint programs save a transparent canvas with the object on it.
            image = image.getchannel("A") if image.mode in ("LA", "RGBA") else image.copy()
    except UnidentifiedImageError:
        raise ValueError(f"'{path}' is no image: save the mask as PNG.") from None
    except Exception as error:  # Pillow's decoders raise errors of many classes
        raise ValueError(f"'{path}' is damaged ({error}): save the mask anew, as PNG.") from None
    return as_mask(image)


def save_mask(mask, path: str | Path) -> None:
    """Write a mask as a PNG image of two values, for `load_mask`.

    Raises ValueError for a name that does not end in .png, since other formats may blur the mask, and as
    `as_mask` does; FileNotFoundError for a folder that is not there, OSError where the disk is full.
    """
    path = as_path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"A mask is saved as PNG, which keeps it exactly: name it '{path.stem}.png'.")
    image = Image.fromarray(as_mask(mask).numpy())
    with whole(path) as partial:
        image.save(partial, format="png")


def polygon_mask(size: Grid, corners: Sequence[tuple[float, float]]) -> Tensor:
    """The pixels inside a polygon: `size` (h, w), `corners` (x, y) in pixels → (h, w) bool.

        mask = ov.polygon_mask((128, 128), [(40, 52), (88, 50), (90, 96), (38, 97)])

    By scikit-image. Raises ValueError for fewer than three corners, and as `as_mask` does; TypeError for a
    size or corners that are none.
    """
    from skimage.draw import polygon2mask

    size = checks.size(size)
    places = checks.tensor("corners", corners, "(corner, 2)")
    if len(places.shape) != 2 or places.shape[1] != 2 or len(places) < 3:
        raise ValueError(
            f"A polygon has three corners (x, y) or more, not an array of shape {tuple(places.shape)}."
        )
    checks.finite("corners", places, "give them in pixels")
    if places.abs().max() > 1e6:  # scikit-image would walk all the way there
        raise ValueError("A corner lies more than a million pixels away: give corners in pixels.")
    return as_mask(polygon2mask(size, [(y, x) for x, y in corners]))
