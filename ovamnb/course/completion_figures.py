"""Chapter 04's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from ..plot.figures import HEAT, new_figure, outline, show, to_array
from ..refine import complete, minmax, resize
from .completing import Click, Seen, by_class, overlap

BEFORE, AFTER = "#0072B2", "#D55E00"  # Okabe-Ito


def before_after(image, heats: Mapping[str, Tensor], affinity: Tensor) -> Figure:
    """The image, and above one another each word's map and its completion, every panel from its lowest value
    to its highest: `heats` word → (h, w)."""
    figure = new_figure(2.1 * (len(heats) + 1), 4.5)
    axes = figure.subplots(2, len(heats) + 1, squeeze=False)
    show(image, ax=axes[0, 0], title="image")
    axes[1, 0].set_axis_off()
    for (word, heat), column in zip(heats.items(), axes.T[1:], strict=True):
        for ax, name, drawn in zip(
            column, ("as it is", "completed"), (heat, complete(heat, affinity)), strict=True
        ):
            ax.imshow(to_array(minmax(drawn)), cmap=HEAT, interpolation="nearest")
            ax.set(xticks=[], yticks=[], title=f"{word}, {name}")
    return figure


def class_gains(seen: Sequence[Seen]) -> Figure:
    """Each class's IoU before and after one completion, the poorest map at the bottom."""
    before, after = (by_class(seen, ("all blocks", rounds)) for rounds in (0, 1))
    order = sorted(before, key=before.__getitem__)
    figure = new_figure(7, 5.2)
    ax = figure.subplots()
    lines = range(len(order))
    low, high = ([values[name] for name in order] for values in (before, after))
    ax.hlines(lines, low, high, color="0.7", linewidth=2, zorder=1)
    ax.scatter(low, lines, color=BEFORE, marker="s", s=24, label="plain map", zorder=2)
    ax.scatter(high, lines, color=AFTER, s=28, label="after one completion", zorder=2)
    ax.set_yticks(lines, order, fontsize=8)
    ax.set(xlim=(0.3, 1), ylim=(-1, len(order)), xlabel="IoU, threshold 0.5")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def rivals(part: Seen) -> Figure:
    """One scene of two objects: the map of one of them as it is and completed, by a text that names it alone
    and by one that names both; the outline of its exact mask in each."""
    figure = new_figure(8.8, 2.25)
    axes = figure.subplots(1, 5)
    show(part.image, ax=axes[0], title=f"where is the {part.concept}?")
    panels = [(named, rounds) for named in ("one named", "both named") for rounds in (0, 1)]
    for ax, (named, rounds) in zip(axes[1:], panels, strict=True):
        ax.imshow(to_array(resize(minmax(part.maps[named, rounds]), part.truth)), cmap=HEAT)
        ax.contour(part.truth.float().numpy(), [0.5], colors="white", linewidths=1.2)
        title = f"{named}, {'completed' if rounds else 'as it is'}"
        ax.set(xticks=[], yticks=[], title=title)
        ax.title.set_size(9)
    return figure


def sums(image, affinity: Tensor, grid: tuple[int, int]) -> Figure:
    """What the rows and the columns of an affinity (h·w, h·w) sum to, drawn in five ways."""
    affinity = affinity.float().cpu()
    rows, columns = affinity.sum(dim=1), affinity.sum(dim=0)
    half = affinity.half().float().sum(dim=1)
    panels = [
        ("row sums\n(scale 0…2)", rows, {"vmin": 0, "vmax": 2}),
        ("negated, stretched\nto 0…1", minmax(-rows[None])[0], {}),
        ("summed backwards,\nstretched", minmax(-affinity.flip(1).sum(dim=1)[None])[0], {}),
        ("from float16,\nstretched", minmax(-half[None])[0], {}),
        ("column sums\n(log scale)", columns, {"norm": LogNorm(0.4, 2.5)}),
    ]
    figure = new_figure(9.8, 2.2)
    axes = figure.subplots(1, 6)
    show(image, ax=axes[0], title="image")
    for ax, (title, values, scale) in zip(axes[1:], panels, strict=True):
        drawn = ax.imshow(values.unflatten(0, grid).numpy(), cmap=HEAT, interpolation="nearest", **scale)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=9)
    bar = figure.colorbar(drawn, ax=axes[5], shrink=0.75, ticks=[0.5, 1, 2], format="%g")
    bar.minorticks_off()
    return figure


def bars(values: Mapping[str, float], label: str) -> Figure:
    """A bar for each name, its value beside it."""
    figure = new_figure(6, 0.32 * len(values) + 0.9)
    ax = figure.subplots()
    names = list(values)[::-1]
    ax.barh(names, [values[name] for name in names], color=BEFORE, height=0.6)
    for i, name in enumerate(names):
        ax.text(values[name], i, f" {values[name]:.2f}", va="center", fontsize=9)
    ax.set(xlim=(0, max(1, 1.12 * max(values.values()))), xlabel=label)
    return figure


def clicked(places: Sequence[Click], cut_out: Callable[..., Tensor]) -> Figure:
    """For each click: the picture with a ring at the place, the place's row of self-attention, and the mask
    that `cut_out` makes of it, with the exact mask's border in white."""
    figure = new_figure(1.35 * len(places) + 0.6, 4.4)
    axes = figure.subplots(3, len(places), squeeze=False)
    for column, click in zip(axes.T, places, strict=True):
        (h, w), (y, x) = click.grid, click.place
        column[0].imshow(click.image)
        at = [(x + 0.5) * click.truth.shape[1] / w, (y + 0.5) * click.truth.shape[0] / h]
        for colour, width in (("black", 3.5), ("white", 1.5)):
            column[0].plot(*at, "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, mew=width)
        row = to_array(click.affinity[y * w + x].unflatten(0, click.grid))
        column[1].imshow(row, cmap=HEAT, norm=PowerNorm(0.5, 0, float(np.quantile(row, 0.995))))
        mask = click.mask(cut_out)
        outline(column[2], click.image, mask)
        column[2].contour(click.truth.float().numpy(), [0.5], colors="white", linewidths=1.2)
        column[2].set_title(f"IoU {overlap(mask, click.truth):.2f}", fontsize=10)
        for ax in column:
            ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[:, 0], ("click", "its row", "mask"), strict=True):
        ax.set_ylabel(name)
    return figure


def side_by_side(image, masks: Mapping[str, Tensor], truth: Tensor) -> Figure:
    """An image with one mask after the other, and each one's IoU with the exact one."""
    figure = new_figure(2.2 * len(masks), 2.7)
    axes = figure.subplots(1, len(masks), squeeze=False)[0]
    for ax, (name, mask) in zip(axes, masks.items(), strict=True):
        outline(ax, image, torch.as_tensor(mask), color=(0.84, 0.37, 0.0))
        ax.set(xticks=[], yticks=[], title=f"{name}\nIoU {overlap(torch.as_tensor(mask), truth):.2f}")
    return figure
