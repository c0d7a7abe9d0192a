"""The way back: from a picture to the noise from which the model would draw it."""

from __future__ import annotations

import torch
from torch import Tensor

from .images import beside, check_prompts, encode_image, encode_prompts, prepare, unet_pass
from .pipelines import quiet
from .plumbing import checks
from .select import Grid
from .unet import require_parts

SPACINGS = ("leading", "trailing")  # of the timesteps, that DDIMInverseScheduler knows


@torch.no_grad()
def invert(pipe, image, prompt: str = "", *, steps: int = 50, size: Grid | None = None) -> Tensor:
    """The noise (1, channel, h, w) from which `pipe` draws the image again, so that its path can be recorded.

        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
        noise = ov.invert(pipe, photograph, "a cat on a sofa")
        with ov.record(pipe) as trace:
            again = pipe("a cat on a sofa", latents=noise, guidance_scale=1, num_inference_steps=50).images[0]

    A deterministic sampler (DDIM, Song et al., ICLR 2021, arXiv 2010.02502) walks one path from noise to a
    picture; its steps, taken backwards with the prediction of the step before, lead from a picture to a
    noise. The more `steps`, the less the two predictions differ, and the nearer comes the picture: the
    bundled model gives it back after 50 or 100, thin lines the least, and after 10 may draw another one. Say
    in `prompt` what is seen. Draw with the same prompt and steps, and without guidance: it leaves the path.

    `image`, `size`: as for `record_image`, whose single pass costs a fraction; this costs as much as drawing.
    Give SDXL, which is told the size, also `height=` and `width=`: those of the noise times the VAE's factor.

    Raises ValueError for a scheduler other than DDIM's, naming the remedy, and as `record_image` does.
    """
    unet = require_parts(pipe)
    with quiet():
        from diffusers import DDIMInverseScheduler, DDIMScheduler
    if not isinstance(pipe.scheduler, DDIMScheduler):
        raise ValueError(
            f"Only DDIM can be walked backwards, and this pipeline's is {type(pipe.scheduler).__name__}: say "
            "pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)."
        )
    if (spacing := pipe.scheduler.config.timestep_spacing) not in SPACINGS:
        raise ValueError(
            f"A scheduler whose timestep_spacing is '{spacing}' cannot be walked "
            f"backwards: make it {' or '.join(map(repr, SPACINGS))}, by `from_config(…, timestep_spacing=…)`."
        )
    steps = checks.whole("steps", steps, 1, pipe.scheduler.config.num_train_timesteps, why="count passes")
    checks.instance("prompt", prompt, str, "a text")
    check_prompts(pipe, prompt)
    latents = encode_image(pipe, prepare(pipe, image, size))
    states, extra = encode_prompts(pipe, prompt, latents)
    further = beside(pipe, latents)
    with quiet():
        backwards = DDIMInverseScheduler.from_config(pipe.scheduler.config)
    backwards.set_timesteps(steps, device=latents.device)
    for t in backwards.timesteps:
        prediction = unet_pass(unet, latents, t, states, extra, further)
        latents = backwards.step(prediction, t, latents).prev_sample
    return latents
