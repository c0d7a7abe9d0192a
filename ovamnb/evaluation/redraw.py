"""A picture of a data set and the model's recording of it: drawn again where the model drew it, else shown to
the model.

image, trace = drawn_again(pipe, data, 3, data[3])
trace = shown(pipe, image, "a photograph of a cat")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from PIL import Image

from ..data.base import Data, Example
from ..images import prepare, record_image
from ..pipelines import factor
from ..recorder import record
from ..trace import Trace
from ..unet import attention_grids

TIMESTEPS = (50, 150, 300, 450)
"""The timesteps whose noise a given picture is recorded with."""


def drawn_again(
    pipe, data: Data, index: int, example: Example, options: Mapping[str, object] | None = None
) -> tuple[Image.Image, Trace]:
    """Picture `index` of the set, from its prompt and seed, and its recording, with `options` of `ov.record`.

    A seed means other random numbers on other devices: those of each that made the set and can be had here
    are tried. Raises as `Data.verify` where none gives the picture.
    """
    *others, last = drawable(data.noise)
    for device in others:
        found = generated(pipe, data, example, device, options or {})
        with suppress(ValueError):
            data.verify(index, found[0])
            return found
    found = generated(pipe, data, example, last, options or {})
    data.verify(index, found[0])
    return found


def drawable(noise: Sequence[str]) -> list[str]:
    """Those of the devices whose random numbers can be had here; the CPU's, if none of them."""
    have = {"cpu"} | {name for name in ("cuda", "mps") if getattr(torch, name).is_available()}
    return [device for device in noise if device in have] or ["cpu"]


def generated(
    pipe, data: Data, example: Example, device: str, options: Mapping[str, object]
) -> tuple[Image.Image, Trace]:
    """A picture from its prompt and the random numbers of a device, and its recording."""
    # Both halves: OVAM's published code reads the one without the prompt.
    usual = {"device": None, "queries": "both" if data.guidance > 1 else "conditional"}
    with record(pipe, self_attention=(finest_grid(pipe),), **usual | dict(options)) as trace:
        [image] = pipe(
            example.prompt,
            num_inference_steps=data.steps,
            guidance_scale=data.guidance,
            generator=torch.Generator(device).manual_seed(example.seed),
        ).images
    return image, trace


def shown(
    pipe, image: Image.Image, prompt: str, seed: int = 0, options: Mapping[str, object] | None = None
) -> Trace:
    """The recording of a given picture, noised and denoised with `prompt`. `seed`: of the noise."""
    return record_image(
        pipe,
        image,
        prompt,
        timesteps=TIMESTEPS,
        self_attention=(finest_grid(pipe, image),),
        seed=seed,
        **{"device": None} | dict(options or {}),
    )


def finest_grid(pipe, image: Image.Image | None = None) -> tuple[int, int]:
    """The largest grid (h, w) of attention for a picture, or at the pipeline's own size."""
    if image is None:
        return attention_grids(pipe.unet)[0]
    w, h = (side // factor(pipe) for side in prepare(pipe, image).size)
    return attention_grids(pipe.unet, (h, w))[0]
