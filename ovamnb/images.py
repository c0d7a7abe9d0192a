"""Images of any origin: prepared, noised and recorded, so that words can be found in them, too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .pipelines import factor
from .plumbing import checks
from .plumbing.rgb import SMALLEST, as_rgb
from .recorder import record
from .select import Grid
from .text import TextEncoder
from .trace import Trace
from .unet import native_size, require_parts, unet_of

MOST_PIXELS = 2**26  # 8192 each way, far beyond what any of these models was trained on
MOST_SAMPLES = 10_000
APART = 0x5EED5EED  # between the seeds of a posterior's sample and of the noise; PyTorch reads 32 bits
AESTHETIC = 6.0  # the score that SDXL's refiner is told by default


def record_image(
    pipe,
    image,
    prompt: str | Sequence[str] = "",
    *,
    timesteps: int | Sequence[int] = 100,
    samples: int = 1,
    seed: int = 0,
    size: Grid | str | None = None,
    **recording,
) -> Trace:
    """Record the UNet's attention to an image that it did not make; the trace gives maps of any words.

        trace = ov.record_image(pipe, photograph, "a cat on a sofa", self_attention=(64,))
        trace.maps("a kitten")["kitten"]

    The image is encoded, noised to each of `timesteps` (0 to 999; DiffSegmenter takes 100) with `samples`
    draws of noise, and passes the UNet once for each: these are the steps of the trace. `prompt` is what the
    UNet reads meanwhile; several prompts in a list become several images of the trace, under the same noise.

    `image`, `size`: as for `prepare`. `recording`: the options of `ov.record`. An inpainting UNet is told
    that all of the picture is to be painted. To record the whole path from noise to this image: `ov.invert`.

    Raises ValueError for an image, a size or a timestep that cannot be used, for a prompt with words that the
    text encoder does not know, and for a model that was not trained on such noise or reads another picture
    beside; warns, naming them, of words beyond the length that the encoder takes.
    """
    require_parts(pipe)
    _check_noise(pipe, timesteps, samples, seed)
    check_prompts(pipe, prompt)
    ready = prepare(pipe, image, size)
    latents = encode_image(pipe, ready)
    states, extra = encode_prompts(pipe, prompt, latents)
    return observe(pipe, noised(pipe, latents, timesteps, samples, seed), states, extra, **recording)


@torch.no_grad()
def observe(pipe, noisy_latents: Iterable, states: Tensor, extra: dict, **recording) -> Trace:
    """The trace of one UNet pass for each (noisy, ε, t) of `noisy_latents`, conditioned on `states` (prompt,
    token, dim); each prompt becomes an image of the trace."""
    unet, further = unet_of(pipe), None
    with record(pipe, guidance=False, **recording) as trace:
        for noisy, _, t in noisy_latents:
            further = beside(pipe, noisy) if further is None else further
            unet_pass(unet, noisy, t, states, extra, further)
    return trace


def unet_pass(unet, noisy: Tensor, t: Tensor, states: Tensor, extra: Mapping, further: Tensor) -> Tensor:
    """The UNet's prediction for each prompt, (prompt, channel, h, w), from `noisy` (1, channel, h, w), what
    it reads `beside`, and `states` (prompt, token, dim)."""
    latents = torch.cat([noisy, further], dim=1)
    return unet(latents.expand(len(states), -1, -1, -1), t, encoder_hidden_states=states, **extra).sample


def beside(pipe, latents: Tensor) -> Tensor:
    """What a UNet reads beside the latents (1, channel, h, w): nothing, (1, 0, h, w), or, where it inpaints,
    a mask that leaves all to be painted, and the latents of a picture of which nothing is seen.

    Raises ValueError for a UNet that reads something else.
    """
    more, channels = pipe.unet.config.in_channels - latents.shape[1], latents.shape[1]
    if more == 0:
        return latents[:, :0]
    if more != channels + 1:
        raise ValueError(
            f"This UNet reads {more} channels beside the {channels} of the latents, a depth map or another "
            "picture: only plain and inpainting models can be shown a picture."
        )
    h, w = (side * factor(pipe) for side in latents.shape[-2:])
    unseen = encode_image(pipe, Image.new("RGB", (w, h), (128, 128, 128)))
    return torch.cat([torch.ones_like(latents[:, :1]), unseen], dim=1)


def noised(
    pipe, latents: Tensor, timesteps: int | Sequence[int], samples: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """√ᾱ_t · x + √(1 − ᾱ_t) · ε for each timestep and draw of ε: (noisy, ε, t), the first two like `latents`.

    Computed here, since `add_noise` has another scale in some schedulers (Euler), while every UNet here was
    trained on this one. The same seed gives the same noise on every device.
    """
    chosen, samples, seed = _check_noise(pipe, timesteps, samples, seed)
    alphas = pipe.scheduler.alphas_cumprod
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        for t in chosen:
            alpha = alphas[t].to(latents)
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
            yield noisy, noise, torch.tensor(t).to(latents.device)


def _check_noise(pipe, timesteps, samples, seed) -> tuple[list[int], int, int]:
    """The timesteps as a list, samples and seed; TypeError or ValueError for any that cannot be used."""
    if getattr(pipe.scheduler, "alphas_cumprod", None) is None or "EDM" in type(pipe.scheduler).__name__:
        raise ValueError(
            f"{type(pipe.scheduler).__name__} has no noise levels ᾱ_t: pictures can be shown to models that "
            "were trained as Stable Diffusion 1, 2 and XL, with one of their schedulers."
        )
    count = len(pipe.scheduler.alphas_cumprod)
    chosen = list(timesteps) if checks.is_list(timesteps) else [timesteps]
    if not chosen:
        raise ValueError(f"Timesteps lie in 0 to {count - 1}: give at least one, such as 100.")
    chosen = [checks.whole("timesteps", t, 0, count - 1, why="are noise levels") for t in chosen]
    samples = checks.whole("samples", samples, 1, MOST_SAMPLES, why="counts draws of noise")
    return chosen, samples, checks.seed(seed)


def check_prompts(pipe, prompt) -> None:
    """ValueError for a prompt with unknown words; a warning for words beyond the encoder's length, which the
    pipeline drops."""
    encoder = TextEncoder.of(pipe)
    prompts = [prompt] if isinstance(prompt, str) else checks.entries("prompt", prompt, "texts")
    if not prompts:
        raise ValueError('There is no prompt in an empty list: give a text, or "" for none.')
    for text in prompts:
        parts = encoder.split(checks.instance("prompt", text, str, "a text, or a list of them"))
        if problem := encoder.too_long(*parts):
            warnings.warn(f"{problem} falls off, and the UNet does not read it.", stacklevel=3)


def prepare(pipe, image, size: Grid | str | None = None) -> Image.Image:
    """The image in RGB at a size the model can take, sides a multiple of its factors.

    `image`: a PIL image of 8 bits, or an array (h, w) or (h, w, 3) of uint8, or of floats 0 to 1. What is
    transparent becomes white, as in a viewer. `size` (h, w) in pixels, "native" for the model's own; None
    keeps the image's proportions at about the area of that.
    """
    ready, native = as_rgb(image), [factor(pipe) * side for side in native_size(pipe.unet)]
    if isinstance(size, str) and size == "native":
        size = native
    elif size is None:
        scale = (math.prod(native) / (ready.width * ready.height)) ** 0.5
        size = (ready.height * scale, ready.width * scale)
    else:
        size = checks.size(size, "a size (h, w) in pixels", most=MOST_PIXELS)
        if min(size) < SMALLEST:
            raise ValueError(
                f"A size of {size} shows nothing: give at least ({SMALLEST}, {SMALLEST}) pixels."
            )
    unit = factor(pipe) * 2 ** (len(pipe.unet.config.block_out_channels) - 1)
    h, w = (max(unit, round(side / unit) * unit) for side in size)
    return ready if ready.size == (w, h) else ready.resize((w, h), Image.Resampling.BICUBIC)


@torch.no_grad()
def encode_image(pipe, image: Image.Image, seed: int | None = None) -> Tensor:
    """The image's latents (1, channel, h, w), scaled as the UNet expects them: the mode of the VAE's
    posterior or, with a seed, a sample of it, whose noise is not that of `noised` with the same seed."""
    vae, config = pipe.vae, pipe.vae.config
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    kept = vae.dtype
    upcast = kept == torch.float16 and config.get("force_upcast")  # SDXL's overflows in half precision
    try:
        if upcast:
            vae.to(torch.float32)
        encoded = vae.encode(pixels.to(vae.device, vae.dtype))
        if hasattr(encoded, "latents"):  # a tiny autoencoder's; the usual one gives a distribution of them
            latents = encoded.latents
        elif seed is None:
            latents = encoded.latent_dist.mode()
        else:
            generator = torch.Generator().manual_seed(checks.seed(seed) ^ APART)
            latents = encoded.latent_dist.sample(generator)
    finally:
        if upcast:
            vae.to(kept)
    latents = (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor
    return latents.to(pipe.unet.device, pipe.unet.dtype)


@torch.no_grad()
def encode_prompts(pipe, prompt: str | Sequence[str], latents: Tensor) -> tuple[Tensor, dict]:
    """States (prompt, token, dim), padded as the pipeline pads them, and the UNet's further arguments: for
    SDXL the pooled states, and the size of the image behind `latents` (1, channel, h, w)."""
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    encoded = pipe.encode_prompt(
        prompts, device=pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    states = encoded[0].to(latents)
    if pipe.unet.config.addition_embed_type != "text_time":
        return states, {}
    h, w = (side * factor(pipe) for side in latents.shape[-2:])
    size = [h, w, 0, 0, *([AESTHETIC] if pipe.config.get("requires_aesthetics_score") else [h, w])]
    times = torch.tensor([size] * len(prompts)).to(latents)
    return states, {"added_cond_kwargs": {"text_embeds": encoded[2].to(latents), "time_ids": times}}
