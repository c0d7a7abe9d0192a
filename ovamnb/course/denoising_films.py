"""Chapter 01's pictures: latents and films of noising and denoising, the schedule as curves, one drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ..notebook import sign
from ..plot.diagrams import arrow, box, drawing, note
from ..plot.figures import LABELS, new_figure, show

SIDE = 1.05  # inches of a picture in a film
AT_ONCE = 8  # pictures that the VAE decodes together


@torch.no_grad()
def decode(pipe, latents: Tensor) -> Tensor:
    """Latents (batch, channel, h, w), scaled as the UNet has them → pictures (batch, 3, H, W) on the CPU."""
    config, parts = pipe.vae.config, []
    latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
    for part in latents.split(AT_ONCE):
        parts.append(pipe.vae.decode(part.to(pipe.vae.device, pipe.vae.dtype)).sample.float().cpu())
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def film(rows: Mapping[str, Sequence | Tensor], titles: Sequence[str]) -> Figure:
    """Rows of pictures, each with its name at the left; `titles` stand above the columns."""
    titles = [fill(title, 15) for title in titles]
    lines = max(title.count("\n") for title in titles)
    figure = new_figure(SIDE * len(titles) + 0.3, SIDE * len(rows) + 0.35 + 0.15 * lines)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(row, pictures, strict=True):
            show(picture, ax=ax)
        row[0].set_ylabel(name, fontsize=9)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    return figure


def draw_latents(picture, latents: Tensor, back: Tensor) -> Figure:
    """A picture, the channels of its latents (1, channel, h, w), and what the VAE makes of them again."""
    values = latents[0].float().cpu().numpy()
    figure = new_figure(1.55 * (len(values) + 2) + 0.7, 2.0)
    axes = figure.subplots(1, len(values) + 2)
    show(picture, ax=axes[0], title="picture")
    largest = float(np.abs(values).max())
    for k, (ax, channel) in enumerate(zip(axes[1:-1], values, strict=True)):
        drawn = ax.imshow(channel, cmap="PuOr", vmin=-largest, vmax=largest)
        ax.set(xticks=[], yticks=[], title=f"channel {k}")
    show(back, ax=axes[-1], title="decoded")
    figure.colorbar(drawn, ax=list(axes), label="latent", shrink=0.8)
    return figure


def draw_schedule(alphas: Tensor) -> Figure:
    """The two weights of the noising formula over the timesteps; `alphas` (t,) are the ᾱ."""
    figure = new_figure(5.6, 2.5)
    ax = figure.subplots()
    alphas = alphas.float().cpu()
    ax.plot(alphas.sqrt(), color=LABELS[0], label="√ᾱ, of the picture")
    ax.plot((1 - alphas).sqrt(), color=LABELS[5], linestyle="--", label="√(1−ᾱ), of the noise")
    ax.set(xlabel="timestep t", ylabel="weight", ylim=(0, 1.05), xlim=(0, len(alphas)))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    sign(figure, "")  # the same schedule for all models of the family
    return figure


def draw_small_masks(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Small masks beside their truths: 3 where both are, 2 the truth alone, 1 the mask alone, as colours."""
    figure = new_figure(2.0 * len(pairs) + 1.6, 2.2)
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    colours = np.array([[238, 238, 238], [213, 94, 0], [86, 180, 233], [0, 114, 178]], np.uint8)
    for ax, (name, (mask, truth)) in zip(axes, pairs.items(), strict=True):
        ax.imshow(colours[mask.int().numpy() + 2 * truth.int().numpy()])
        h, w = mask.shape
        ax.set_xticks(np.arange(w + 1) - 0.5, [])
        ax.set_yticks(np.arange(h + 1) - 0.5, [])
        ax.grid(color="white", linewidth=0.8)
        ax.tick_params(length=0)
        ax.set_title(name, fontsize=9)
    names = ("mask only", "truth only", "both")
    handles = [Patch(facecolor=colours[k] / 255, label=name) for k, name in enumerate(names, 1)]
    axes[-1].legend(handles=handles, frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9)
    sign(figure, "")
    return figure


def diagram() -> Figure:
    """How a latent diffusion model draws: the numbers in brackets are the chapter's sections."""
    figure, ax = drawing(13.2, 4.3, scale=0.7)
    noise = box(ax, 0.1, 1.9, "noise\n$x_{999}$", "plain")
    noisy = box(ax, 2.9, 1.9, "noisy latents\n$x_t$", "image")
    unet = box(ax, 5.7, 1.9, "UNet (4)", "plain")
    guess = box(ax, 8.5, 1.9, "estimate\n$\\hat{x}_0$", "image")
    clean = box(ax, 11.3, 1.9, "latents\n$x_0$ (2)", "image")
    prompt = box(ax, 2.9, 0.15, "prompt", "text")
    words = box(ax, 5.7, 0.15, "word vectors", "text")
    picture = box(ax, 11.3, 0.15, "picture", "result")
    given = box(ax, 2.9, 3.4, "a given picture\n+ noise (3, 8)", "image")
    arrow(ax, noise, noisy, "start")
    arrow(ax, noisy, unet)
    arrow(ax, unet, guess, "predicts")
    arrow(ax, guess, clean, "at the end")
    arrow(ax, prompt, words, "encode")
    arrow(ax, words, unet)
    note(ax, 6.75, 1.6, "cross-attention (6)")
    arrow(ax, clean, picture)
    note(ax, 12.3, 1.6, "VAE\n(2)")
    arrow(ax, given, noisy, dashed=True)
    arrow(ax, (9.4, 2.7), (4.7, 2.7), curve=0.22)
    note(ax, 7.05, 3.95, "a little less noise, and again (5)", ha="center")
    return figure
