"""Dense CRF: masks that stop at the image's own edges."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .images import as_rgb
from .plumbing import checks

FINEST = 0.1  # pixels, or grey values of 255: with less, no two pixels would count as near or alike
CELLS = 8000  # longest side, in lengths: the C++ code counts them in 16 bits, and crashes beyond
REACH = 80 / 512  # of the longer side


def dense_crf(
    probabilities: Tensor,
    image,
    *,
    appearance: float = 10.0,
    reach: float | None = None,
    contrast: float = 13.0,
    smoothness: float = 3.0,
    nearness: float = 3.0,
    iterations: int = 5,
) -> Tensor:
    """Sharpen class probabilities at colour edges: (class, h, w) → (class, h, w), summing to 1 at each pixel.

        heat = ov.resize(maps["cat"], image)
        heat = heat / heat.max()
        cat = ov.dense_crf(torch.stack([1 - heat, heat]), image)[1] > 0.5

    A fully connected conditional random field (Krähenbühl and Koltun, NeurIPS 2011, arXiv 1210.5644): for
    different labels, two pixels pay `appearance`, weighted by Gaussians of their distance (`reach`, in
    pixels) and their colours (`contrast`, of 255), and `smoothness`, by one of their distance (`nearness`).
    The defaults are OVAM's; its `reach`, 80 pixels on images of 512, is taken as a share of the longer side.
    `image` has size (h, w).

    Needs the extra `pip install "ovamnb[crf]"`: pydensecrf2, which wraps the authors' own code. It has no
    wheels, so a C++ compiler has to be there; tried on Python 3.11 and Linux only, and its build pins a
    Cython older than Python 3.13. (Of the others, crfseg lacks the colour term, SimpleCRF did not build on
    3.11, and kornia has no CRF.)

    Raises ImportError without that package, and ValueError for shapes that do not fit, for probabilities that
    are negative or not finite, and for weights and lengths out of range, on which the C++ code crashes.
    """
    load_crf()
    pixels = np.array(as_rgb(image))  # (h, w, 3)
    probabilities = checks.tensor("probabilities", probabilities, "(class, h, w)")
    if probabilities.ndim != 3 or len(probabilities) < 2 or probabilities.shape[1:] != pixels.shape[:2]:
        raise ValueError(
            f"Probabilities have the shape (class, h, w) with two classes or more, background included, and "
            f"the image's size {pixels.shape[:2]}, not {tuple(probabilities.shape)}: see `ov.resize`."
        )
    count, h, w = probabilities.shape
    reach = REACH * max(h, w) if reach is None else reach
    shortest = max(FINEST, max(h, w) / CELLS)
    for name, value in (("reach", reach), ("nearness", nearness)):
        checks.number(name, value, shortest, 1e6, why="counts pixels")
    checks.number("contrast", contrast, FINEST, 1e6, why="counts grey values of 255")
    for name, value in (("appearance", appearance), ("smoothness", smoothness)):
        checks.number(name, value, 0, 1e6)
    iterations = checks.whole("iterations", iterations, 0, 1000)
    checks.finite("probabilities", probabilities)
    if probabilities.min() < -1e-3:  # rounding may leave a little less than 0
        raise ValueError("Probabilities are 0 or more: scale the scores first, or clamp them.")
    unary = -probabilities.detach().float().cpu().clamp(min=1e-5).log().reshape(count, -1)
    field = _field(pixels.tobytes(), (h, w), count, appearance, reach, contrast, smoothness, nearness)
    field.setUnaryEnergy(np.ascontiguousarray(unary.numpy()))
    sharper = np.array(field.inference(iterations)).reshape(count, h, w)
    return torch.from_numpy(sharper).to(probabilities.device)


@lru_cache(maxsize=1)  # half of the time goes into it, and thresholds are swept on one image
def _field(pixels: bytes, size: tuple[int, int], count, appearance, reach, contrast, smoothness, nearness):
    """The field without its unary energies, for an image (h, w, 3)."""
    h, w = size
    field, image = load_crf()(w, h, count), np.frombuffer(pixels, np.uint8).reshape(h, w, 3).copy()
    field.addPairwiseGaussian(sxy=nearness, compat=smoothness)
    field.addPairwiseBilateral(sxy=reach, srgb=contrast, rgbim=image, compat=appearance)
    return field


def after_crf(scores: Tensor, image) -> Tensor:
    """`scores` (class, h, w), 0 to 1 → probabilities (class, h, w) after a dense CRF that starts from them;
    the background's score is 1 minus the highest."""
    with_background = torch.cat([1 - scores.amax(dim=0, keepdim=True), scores])
    return dense_crf(with_background / with_background.sum(dim=0), image)[1:]


def load_crf() -> type:
    """pydensecrf's class; ImportError, with the remedy, where it is not installed."""
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        raise ImportError(
            'The dense CRF is an extra: `pip install "ovamnb[crf]"`, with a C++ compiler (Debian: apt '
            "install g++; macOS: xcode-select --install) and a Python older than 3.13."
        ) from None
    return DenseCRF2D
