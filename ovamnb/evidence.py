"""How much a text helps the UNet to see through the noise: a diffusion model as a judge of what is there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks
from .images import check_prompts, encode_image, encode_prompts, noised, prepare


@torch.no_grad()
def evidence(
    pipe,
    image,
    texts: Sequence[str],
    *,
    timesteps: int | Sequence[int] = (500, 700),
    samples: int = 2,
    seed: int = 0,
    batch: int = 16,
) -> Tensor:
    """E(text) = 1 − error(text) / error(no text), where error = mean ‖prediction − target‖²: (text,).

        gains = evidence(pipe, image, ["a cat", "a car"])    # > 0: the words help to denoise this image

    Every text meets the same noise, `samples` draws at each of `timesteps`, so that differences are the
    text's. What a model predicts better when it reads "cat" has a cat in it. (Diffusion Classifier, Li et
    al., ICCV 2023, arXiv 2303.16203, compares such errors between classes; here each is held against the
    error without any text.)

    Raises ValueError without texts and for words that the model does not know, which all would be one and the
    same to it; TypeError for arguments of a wrong kind.
    """
    texts = checks.entries("texts", texts, "texts")
    if not texts:
        raise ValueError("There is no text to judge: give at least one.")
    batch = checks.whole("batch", batch, 1, why="counts texts")
    check_prompts(pipe, texts)
    latents = encode_image(pipe, prepare(pipe, image))
    draws = list(noised(pipe, latents, timesteps, samples, seed))
    errors = torch.zeros(len(texts) + 1)
    for start in range(0, len(errors), batch):
        states, extra = encode_prompts(pipe, ["", *texts][start : start + batch], latents)
        for noisy, noise, t in draws:
            many = noisy.expand(len(states), -1, -1, -1)
            answer = pipe.unet(many, t, encoder_hidden_states=states, **extra).sample
            wrong = answer - target(pipe, latents, noise, t)
            errors[start : start + batch] += wrong.float().square().mean(dim=(1, 2, 3)).cpu()
    return 1 - errors[1:] / errors[0]


def target(pipe, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the UNet was trained to answer: the noise, the clean latents, or v = √ᾱ ε − √(1 − ᾱ) x."""
    kind = pipe.scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return latents
    kept = pipe.scheduler.alphas_cumprod[int(t)].to(latents)
    return kept.sqrt() * noise - (1 - kept).sqrt() * latents
