"""The bundled UNet and its objective.

    z_t = √ᾱ_t z + √(1-ᾱ_t) ε,   v = √ᾱ_t ε - √(1-ᾱ_t) z,   loss = mean (v - v̂(z_t, t, text))²

(v-prediction, Salimans & Ho 2022.) Self- and cross-attention stand at all three resolutions, so that a
reader can compare them; only the first block, which sees the latents before any context, has none.
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from .autoencoder import LATENT_CHANNELS

CHANNELS = (64, 96, 160)
HEADS = (2, 4, 4)  # on each grid; the finest one's self-attention is a third of a step's cost
TEXT_DIM = 160
EMPTY_CAPTIONS = 0.1  # share of captions replaced by "": what classifier-free guidance subtracts


def build_unet(channels: tuple[int, ...] = CHANNELS) -> UNet2DConditionModel:
    """Three levels (32, 16, 8 for a 128×128 image), one layer per block."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (len(channels) - 1)),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=HEADS,  # diffusers reads these as numbers of heads
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, with v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


class Denoiser(nn.Module):
    """UNet and text encoder together: what is trained, and the loss it is trained with."""

    def __init__(
        self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, scheduler: DDIMScheduler
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.scheduler = unet, text_encoder, scheduler

    def noised(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """latents (batch, 4, h, w) → z_t, t (batch,) and the target v, all that is drawn at random.

        The steps of a batch are spread evenly over the schedule, which costs nothing and varies less than
        independent draws, and then drawn towards the noisy end: there the text decides. (Of a half-trained
        model the right caption lowered the loss by .02 at step 300, .05 at 500 and .2 at 700.)
        """
        batch, device = len(latents), latents.device
        total = self.scheduler.config.num_train_timesteps
        spread = (torch.randperm(batch, device=device) + torch.rand(batch, device=device)) / batch
        steps = (spread ** (2 / 3) * total).long().clamp(max=total - 1)
        noise = torch.randn_like(latents)
        noisy = self.scheduler.add_noise(latents, noise, steps)
        return noisy, steps, self.scheduler.get_velocity(latents, noise, steps)

    def forward(self, noisy: Tensor, steps: Tensor, target: Tensor, tokens: Tensor) -> Tensor:
        """What `noised` gave and token ids (batch, token) → scalar loss."""
        states = self.text_encoder(tokens)[0]  # (batch, token, dim)
        predicted = self.unet(noisy, steps, encoder_hidden_states=states).sample
        return (predicted.float() - target).square().mean()


def in_bfloat16(model: Denoiser, noisy: Tensor, *rest: Tensor) -> Tensor:
    """`model(noisy, *rest)` with every weight and activation in bfloat16; the weights' gradients are float32
    as they are. (Autocast leaves the normalisations in float32: twice the memory to go through.)"""
    weights = {name: weight.bfloat16() for name, weight in model.named_parameters()}
    return torch.func.functional_call(model, weights, (noisy.bfloat16(), *rest))
