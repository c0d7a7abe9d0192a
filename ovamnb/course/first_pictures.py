"""Chapter 00's pictures, with the true masks that `python -m workshop.make.first_masks` wrote, and how to
look at maps beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from ..data.base import NEAR, thumbnail
from ..emoji.sprites import CONCEPTS
from ..plot.figures import HEAT, LABELS, new_figure, show, to_array, to_pixels
from ..refine import resize

FOLDER = Path(__file__).parents[1] / "assets" / "course"
PROMPT = "a cat and a car on grass"
NAMES = ("cat", "car")
SEEDS = (*range(8), 19)
COLOURS = dict(zip(NAMES, (LABELS[0], LABELS[2]), strict=True))
"""Blue and pink: neither the cats nor the cars nor the grass are of these colours."""
Masks = Mapping[str, Tensor]


def masks(image: Image.Image, seed: int) -> dict[str, Tensor] | None:
    """Where cat, car and grass are in one of chapter 00's pictures: {"cat": (h, w) bool, …}.

        masks(image, 19)["cat"]

    They are a segmenter's, trained on rendered scenes, whose own mIoU on such scenes is about .97; the pixels
    of outlines belong to none of the three. None for a picture that is not the one that was labelled, such as
    another model's, or one of another prompt or seed.
    """
    index = json.loads((FOLDER / "first_masks.json").read_text("utf-8"))
    seen = index["thumbnails"].get(str(seed))
    if seen is None or np.abs(thumbnail(image) - np.array(seen, float)).mean() > NEAR:
        return None
    tiles = np.asarray(Image.open(FOLDER / "first_masks.png"))
    labels = torch.from_numpy(tiles.reshape(len(SEEDS), -1, tiles.shape[1])[SEEDS.index(seed)].copy())
    if tuple(labels.shape) != (image.height, image.width):
        return None
    return {name: labels == CONCEPTS.index(name) + 1 for name in NAMES} | {"grass": labels == 0}


def means_on(heat: Tensor, masks: Masks) -> dict[str, float]:
    """The mean of `heat` (h, w), resized to the masks' size, over each mask (H, W) bool: {name: mean}.

    Raises ValueError for a mask without a pixel, whose mean would be nothing.
    """
    empty = [name for name, mask in masks.items() if not mask.any()]
    if empty:
        raise ValueError(f"There is no pixel of {', '.join(empty)} in this picture: leave it out.")
    return {name: float(resize(heat.cpu(), mask)[mask].mean()) for name, mask in masks.items()}


def beside_truth(
    image, masks: Masks | None, rows: Mapping[str, Mapping[str, Tensor]], *, label: str = "share of attention"
) -> Figure:
    """The picture, the true masks, and maps of words, all on one scale: a row for each entry of `rows`, a
    column for each word. White lines are the true outlines (none where masks are unknown)."""
    words = list(next(iter(rows.values())))
    figure = new_figure(1.75 * (len(words) + 1) + 0.8, 1.75 * len(rows) + 0.5)
    axes = figure.subplots(len(rows), len(words) + 1, squeeze=False)
    high = max(float(heat.max()) for row in rows.values() for heat in row.values())
    for ax in axes[1:, 0]:
        ax.set_axis_off()
    show(image, ax=axes[0, 0], title="picture")
    if masks is not None and len(rows) > 1:
        _draw_masks(axes[1, 0], image, masks)
    for axes_of_row, (name, heats) in zip(axes, rows.items(), strict=True):
        for ax, (word, heat) in zip(axes_of_row[1:], heats.items(), strict=True):
            layer = _draw_map(ax, image, heat, masks, high)
            if ax in axes[0]:
                ax.set_title(word)
        axes_of_row[1].set_ylabel(name, fontsize=9)
    figure.colorbar(layer, ax=list(axes.ravel()), label=label, shrink=0.85)
    return figure


def in_a_row(
    images: Sequence,
    titles: Sequence[str],
    heats: Sequence[Tensor] = (),
    masks: Sequence[Masks | None] = (),
    label: str = "share of attention",
) -> Figure:
    """Pictures side by side; with `heats`, their maps instead, on one scale and with the true outlines of
    `masks` where these are known."""
    figure = new_figure(1.28 * len(images) + (0.9 if heats else 0), 1.65)
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    high = max((float(heat.max()) for heat in heats), default=0.0)
    for k, (ax, image, title) in enumerate(zip(axes, images, titles, strict=True)):
        if heats:
            layer = _draw_map(ax, image, heats[k], masks[k], high)
        else:
            show(image, ax=ax)
        ax.set_title(title, fontsize=9)
    if heats:
        figure.colorbar(layer, ax=list(axes), label=label, shrink=0.85)
    return figure


def _draw_map(ax: Axes, image, heat: Tensor, masks: Masks | None, high: float) -> AxesImage:
    h, w = to_pixels(image).shape[:2]
    extent = (-0.5, w - 0.5, h - 0.5, -0.5)
    layer = ax.imshow(to_array(heat), extent=extent, cmap=HEAT, vmin=0, vmax=high)
    ax.set(xticks=[], yticks=[])
    for thing in NAMES if masks is not None else ():
        ax.contour(to_array(masks[thing]), [0.5], colors="white", linewidths=0.9)
    return layer


def _draw_masks(ax: Axes, image, masks: Masks) -> None:
    """The masks in flat colours, on grey."""
    h, w = to_pixels(image).shape[:2]
    flat = np.full((h, w, 3), 0.9)
    for name, colour in COLOURS.items():
        flat[masks[name].numpy()] = to_rgb(colour)
        rows, columns = np.nonzero(masks[name].numpy())
        ax.text(columns.mean(), rows.mean(), name, ha="center", va="center", fontsize=9, color="white")
    ax.imshow(flat)
    ax.set(xticks=[], yticks=[], title="segmenter's masks")
    ax.text(w - 5, h - 5, "grass", ha="right", va="bottom", fontsize=9, color="0.3")
    ax.set_axis_on()
