"""What an image shows: how much a text helps the UNet to denoise it; and the filters and captioners that
DiffSegmenter uses before it segments.

A filter is any function (image, classes) → the classes to keep; a captioner any function (image, start of a
text) → its continuation. There are two of each: CLIP and BLIP for photographs, and one made of the diffusion
model itself, which needs no other network.

    denoising.py   the diffusion model's own evidence, and the filter and the captioner made of it
    companions.py  the other networks: CLIP as a filter, BLIP as a captioner
    clip.py        a tiny CLIP that knows emoji scenes
"""

from .companions import BLIP, CLIP, BlipCaptioner, ClipFilter, paper_filter
from .denoising import DiffusionCaptioner, DiffusionFilter, evidence, target

__all__ = [
    "BLIP",
    "CLIP",
    "BlipCaptioner",
    "ClipFilter",
    "DiffusionCaptioner",
    "DiffusionFilter",
    "evidence",
    "paper_filter",
    "target",
]
