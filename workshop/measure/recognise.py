"""Is it the thing itself, or a blotch of its colours? A strict measure of drawn pictures, without a network.

    >>> recognition(scene(0, concepts=["cat"]).image, "cat")   # 1 is the sprite itself; at least RECOGNISED
    0.96

A picture is compared with the sprites of a concept: in each style and colour, in many sizes, as it is and
flipped, at each place, on the picture's own ground colour. Both are band-passed first, so that neither the
ground's light nor flat areas of the right colour count, only outlines and parts:

    B(x) = G_0.8 * x - G_5 * x              per channel, G_σ a Gaussian of σ pixels
    recognition = max over templates t and places p of  ⟨B(x)_p, B(t)⟩ / (|B(x)_p| |B(t)|)

where B(x)_p is the part of the picture that the template covers. Of 28 rendered scenes of one object all are
recognised, the median is .94; sprites of other classes reach .29 on average, one in twenty more than .44.
What is little more than a disc, as a ball or a tree, can be mistaken for another disc (.53).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovamnb.emoji.sprites import PAINTABLE, PAINTS, STYLES, sprite

RECOGNISED = 0.5
BAND = (0.8, 5.0)  # pixels: finer is noise, coarser is colour
MARGIN = 3  # pixels of ground around a template: an outline has two sides
SIDES = tuple(round(46 * (104 / 46) ** (k / 14)) for k in range(15))  # pixels; 6 % apart


def recognition(image: np.ndarray, concept: str, sides: Sequence[int] = SIDES) -> float:
    """image (h, w, 3) uint8 → in [-1, 1], how much it shows this concept's sprite; `sides` of the sprites'
    tiles in pixels. Templates larger than the picture are left out; ValueError if all are."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    ground = border(pixels).median(dim=1).values  # (3,)
    # An object may touch the picture's edge: the ground goes on behind it.
    seen = band_pass(F.pad(pixels[None], (MARGIN,) * 4, mode="replicate"))[0]
    h, w = seen.shape[-2:]
    frame = (-(-h // 16) * 16, -(-w // 16) * 16)  # sizes that a Fourier transform is quick at
    spectrum = torch.fft.rfft2(seen, s=frame)
    energy = F.pad(seen.square().sum(0).double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    found = []
    for style, side in itertools.product(STYLES, sides):
        th, tw = tiles(concept, style, side)[0].shape[-2:]
        if th > h or tw > w:
            continue
        templates = band_pass(on_ground(concept, style, side, ground))  # (template, 3, th, tw)
        turned = torch.fft.rfft2(templates, s=frame).conj()
        product = torch.fft.irfft2((spectrum * turned).sum(1), s=frame)
        product = product[:, : h - th + 1, : w - tw + 1]  # where the whole template lies inside
        own = templates.square().sum(dim=(1, 2, 3)).sqrt()[:, None, None]
        part = energy[th:, tw:] - energy[:-th, tw:] - energy[th:, :-tw] + energy[:-th, :-tw]
        found.append(float((product / (own * part.clamp(min=1).sqrt().float())).max()))
    if not found:
        raise ValueError(f"No sprite with a side of {min(sides)} or more fits into {w}×{h} pixels.")
    return max(found)


def border(pixels: Tensor) -> Tensor:
    """The outermost pixels (3, n) of a picture (3, h, w)."""
    edges = (pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1])
    return torch.cat(edges, dim=1)


def band_pass(pictures: Tensor) -> Tensor:
    """(batch, channel, h, w) → the same: what a Gaussian of `BAND[0]` pixels keeps and one of `BAND[1]` does
    not."""
    fine, coarse = (blurred(pictures, sigma) for sigma in BAND)
    return fine - coarse


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """(batch, channel, h, w) under a Gaussian; the pictures' edges go on for ever."""
    radius = int(np.ceil(3 * sigma))
    kernel = torch.exp(-torch.arange(-radius, radius + 1.0).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    for _ in range(2):  # along the rows, then along what were the columns
        *shape, width = pictures.shape
        rows = F.pad(pictures.reshape(-1, 1, width), (radius, radius), mode="replicate")
        pictures = F.conv1d(rows, kernel).reshape(*shape, width).transpose(-1, -2)
    return pictures


def on_ground(concept: str, style: str, side: int, ground: Tensor) -> Tensor:
    """(template, 3, h, w): the sprite in its colours, as it is and flipped, cut tight but for the margin, on
    a ground colour (3,)."""
    opaque, colours = tiles(concept, style, side)
    plain = opaque * colours + (1 - opaque) * ground[:, None, None]
    return torch.cat([plain, plain.flip(-1)])


@cache
def tiles(concept: str, style: str, side: int) -> tuple[Tensor, Tensor]:
    """Opacity (1, 1, h, w) in [0, 1] and colours (colour, 3, h, w) of a sprite whose tile has this side, cut
    tight but for the margin."""
    names = tuple(PAINTS) if concept in PAINTABLE else (None,)
    pictures = [
        Image.fromarray(sprite(concept, style, name)).resize((side, side), Image.Resampling.BILINEAR)
        for name in names
    ]
    left, top, right, bottom = pictures[0].getchannel("A").point(lambda a: 255 * (a > 127)).getbbox()
    box = (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN)
    cut = torch.stack([torch.from_numpy(np.array(picture.crop(box))).float() for picture in pictures])
    cut = cut.permute(0, 3, 1, 2)
    return cut[:1, 3:] / 255, cut[:, :3]
