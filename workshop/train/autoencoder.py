"""The bundled VAE: 128×128 pixels to 32×32 latents and back.

    loss = Σ_s |pool_s(x - D(z))| + ¼ |pool_4(x) - ½ z_rgb| + 1e-6 · KL(q(z|x) ‖ N(0, 1)),   z ~ q(z|x)

with s = 1, 2, 4, 8 pixels. Texture averages out in the coarser errors and colour does not: without them a
young VAE washes small objects out. z_rgb, the first three of four latent channels, is held near a thumbnail
of the picture: a purple umbrella stays purple, and a latent that looks like its picture is quickly learnt to
denoise. No GAN and no perceptual network: sprites have neither skin nor hair.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import nn

CHANNELS = (32, 48, 64)
LATENT_CHANNELS = 4
FACTOR = 2 ** (len(CHANNELS) - 1)


def build_autoencoder() -> AutoencoderKL:
    """An `AutoencoderKL` with a factor of 4 and no attention: at this size convolutions suffice."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=128,
        mid_block_add_attention=False,
    )


def reconstruction_loss(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """images (batch, 3, h, w) in [-1, 1] → scalar; the equation at the top of this module."""
    posterior = vae.encode(images).latent_dist
    error = images - vae.decode(posterior.sample()).sample
    pyramid = sum(nn.functional.avg_pool2d(error, size).abs().mean() for size in (1, 2, 4, 8))
    thumbnail = nn.functional.avg_pool2d(images, FACTOR)
    anchor = (thumbnail - posterior.mean[:, :3] / 2).abs().mean()
    return pyramid + 0.25 * anchor + 1e-6 * posterior.kl().mean()


@torch.no_grad()
def set_scale(vae: AutoencoderKL, images: torch.Tensor) -> None:
    """Stores the factor that gives latents unit variance where every pipeline looks for it: in the VAE's
    config."""
    latents = vae.encode(images).latent_dist.mean
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))


@torch.no_grad()
def encode(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """images (batch, 3, h, w) in [-1, 1] → scaled latents (batch, 4, h / 4, w / 4)."""
    return vae.encode(images).latent_dist.mean * vae.config.scaling_factor


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, images: torch.Tensor) -> tuple[float, float]:
    """(mean absolute error in grey levels of 255, PSNR in dB) of decoding what was encoded."""
    decoded = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
    squared = (decoded - images).square().mean()
    return float((decoded - images).abs().mean() * 127.5), float(10 * torch.log10(4 / squared))
