"""Chapter 10's figures: each shows a failure as it looks from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..plot.figures import HEAT, new_figure, outline, to_array, to_pixels

HERE, ABSENT = "#0072B2", "#D55E00"


def histograms(values: Mapping[str, tuple[Tensor, Tensor, float]]) -> Figure:
    """For each statistic the values of words that are there, of words that are not, and the AUC."""
    figure = new_figure(4.1 * len(values), 2.7)
    for ax, (name, (here, absent, area)) in zip(
        figure.subplots(1, len(values), squeeze=False)[0], values.items(), strict=True
    ):
        top = float(torch.cat([here, absent]).max())
        bins = np.linspace(min(0.0, float(torch.cat([here, absent]).min())), top, 21)
        for part, colour, label in ((absent, ABSENT, "not there"), (here, HERE, "there")):
            share = np.full(len(part), 1 / len(part))
            ax.hist(to_numbers(part), bins, weights=share, color=colour, alpha=0.55, label=label)
        ax.set(xlabel=name, ylabel="share of the words", title=f"AUC {area:.2f}")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8)
    return figure


def to_numbers(values: Tensor) -> np.ndarray:
    """Values (n,), on any device, as an array."""
    return values.detach().float().cpu().numpy()


def own_and_common(image, heats: Mapping[str, Tensor]) -> Figure:
    """The same maps twice: above each from its own minimum to its own maximum, below all on one scale."""
    figure = new_figure(1.5 * len(heats) + 2.2, 3.7)
    axes = figure.subplots(2, len(heats) + 1)
    pixels, arrays = to_pixels(image), {word: to_array(heat) for word, heat in heats.items()}
    top = max(float(heat.max()) for heat in arrays.values())
    for row in axes:
        for ax in row:
            ax.set(xticks=[], yticks=[])
    axes[0, 0].imshow(pixels)
    axes[1, 0].imshow(pixels)
    axes[0, 0].set(title="image", ylabel="own scales")
    axes[1, 0].set(ylabel="one scale")
    for (own, common), (word, heat) in zip(axes[:, 1:].T, arrays.items(), strict=True):
        own.imshow(heat, cmap=HEAT)
        own.set_title(word)
        shown = common.imshow(heat, cmap=HEAT, vmin=0, vmax=top)
        common.set_xlabel(f"peak {heat.max():.2f}", fontsize=8)
    figure.colorbar(shown, ax=list(axes[1]), label="share", shrink=0.9)
    return figure


def token_bars(tokens: Sequence[str], values: Tensor) -> Figure:
    """Mean and peak of every token's map, `values` (token, h, w)."""
    figure = new_figure(0.75 * len(tokens) + 1, 2.8)
    ax = figure.subplots()
    flat, places = values.detach().float().cpu().flatten(1), np.arange(len(tokens))
    ax.bar(places - 0.2, flat.mean(dim=1).numpy(), 0.4, color=ABSENT, label="mean of the map")
    ax.bar(places + 0.2, flat.amax(dim=1).numpy(), 0.4, color=HERE, label="peak of the map")
    ax.set_xticks(places, [*tokens], rotation=30, ha="right")
    ax.set_ylabel("share of attention")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def pictures(rows: Mapping[str, Sequence], below: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """Pictures in rows, one row for each prompt, with a line under each."""
    columns = max(map(len, rows.values()))
    figure = new_figure(1.45 * columns + 0.4, 1.95 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (prompt, images) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.set_axis_off()
        for i, (ax, image) in enumerate(zip(line, images, strict=False)):
            ax.set_axis_on()
            ax.imshow(to_pixels(image))
            ax.set(xticks=[], yticks=[])
            if below:
                ax.set_xlabel(below[prompt][i], fontsize=8)
        line[0].set_title(f"“{prompt}”", loc="left", fontsize=9)
    return figure


def bound(
    images: Sequence, masks: Sequence[Tensor], words: Sequence[str], density: Sequence[Tensor], objects
) -> Figure:
    """Pictures with their objects outlined, and below each how dense the words are on the objects:
    `density` (word, object) each."""
    figure = new_figure(2.15 * len(images) + 0.6, 3.9)
    axes = figure.subplots(2, len(images), squeeze=False)
    top = max(float(table.max()) for table in density)
    for i, ax in enumerate(axes[0]):
        ax.set_title(f"picture {i}", fontsize=9)
    for (above, below), image, mask, table in zip(axes.T, images, masks, density, strict=True):
        outline(above, image, _as_large(mask.any(dim=0), to_pixels(image)), alpha=0)  # colours count
        above.set(xticks=[], yticks=[])
        below.imshow(to_array(table), cmap=HEAT, vmin=0, vmax=top, aspect="auto")
        for (row, column), value in np.ndenumerate(to_array(table)):
            colour = "white" if value < 0.6 * top else "black"
            below.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
        below.set_xticks(range(len(objects)), [f"on the {name}" for name in objects], fontsize=8)
        below.set_yticks(range(len(words)), [f"“{word}”" for word in words], fontsize=8)
    return figure


def of_a_click(image, heat: Tensor, row: Tensor, piece: Tensor, place: tuple[int, int]) -> Figure:
    """A word's map, what the clicked `place` (y, x) attends to, each on a scale of its own, and a mask."""
    figure = new_figure(8.8, 2.4)
    axes = figure.subplots(1, 4)
    pixels = to_pixels(image)
    axes[0].imshow(pixels)
    for ax, values in zip(axes[1:3], (heat, row), strict=True):
        ax.imshow(to_array(values), cmap=HEAT)
    axes[2].plot(place[1], place[0], "o", color="white", markeredgecolor="black")
    outline(axes[3], image, _as_large(piece, pixels))
    titles = ("image", "the map of “cats”", "the click’s row", "one piece of the map")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(xticks=[], yticks=[], title=title)
    return figure


def _as_large(mask: Tensor, pixels: np.ndarray) -> Tensor:
    """A mask (h, w) bool, stretched over the pixels (h, w, 3) of an image."""
    return F.interpolate(mask[None, None].float(), size=pixels.shape[:2], mode="nearest")[0, 0].bool()
