"""Pictures of any origin, as PIL images in RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from . import checks

SMALLEST = 8  # pixels each way: less shows nothing


def as_rgb(image) -> Image.Image:
    """Any image of 8 bits as a PIL image in RGB; ValueError that names the remedy for what is none."""
    if isinstance(image, Tensor):
        raise ValueError("Give a PIL image or an array (h, w, 3), not a tensor: tensors differ in range.")
    if not isinstance(image, Image.Image):
        try:
            array = np.asarray(image)
        except (TypeError, ValueError):  # such as rows of several lengths
            raise ValueError(f"Give a PIL image or an array (h, w, 3), not {checks.shown(image)}.") from None
        if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
            array = (array * 255).round().astype(np.uint8)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
            raise ValueError(
                f"An image array has the shape (h, w) or (h, w, 3) and holds uint8, or floats 0 to 1, not "
                f"{array.shape} of {array.dtype}: 16 bits become 8 by `(array / 257).astype('uint8')`."
            )
        image = Image.fromarray(array)
    try:
        image.load()  # an image from a file is read only now
    except Exception as error:  # Pillow's decoders raise errors of many classes
        raise ValueError(f"This image's file is damaged ({error}): save it anew.") from None
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"This image has more than 8 bits a channel (mode {image.mode}): scale it to 0–255 first, from "
            "16 bits by `Image.fromarray((numpy.asarray(image) / 257).astype('uint8'))`."
        )
    if min(image.size) < SMALLEST:
        raise ValueError(
            f"This image is {image.width}×{image.height} pixels, too small to show anything: give at least "
            f"{SMALLEST}×{SMALLEST}."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
