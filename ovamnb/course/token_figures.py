"""Chapter 05's figures: how a token is learned, what it finds, what it is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..notebook import sign
from ..plot.figures import HEAT, new_figure
from ..tokens import FIGURES
from .token_lessons import FOLLOWED, Annotated, iou

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe-Ito
ROWS = {
    "1 object(s)": "scenes of one object",
    "2 object(s)": "scenes of two objects (only OVAM was measured)",
}
REACH = (0.52, 0.94)  # of the axis of mIoU, the same in both figures


def draw_pull(share: Tensor, target: Tensor) -> Figure:
    """Share, mask and their difference, each (h, w): what each cell wants of the vector."""
    figure = new_figure(8.6, 2.8)
    axes = figure.subplots(1, 3)
    panels = (
        (share, "share p of the word", HEAT, 0, 1, ""),
        (target, "target t: part of the cell in the mask", HEAT, 0, 1, ""),
        (share - target, "p − t", "PuOr_r", -1, 1, "too dark ← → too bright"),
    )
    for ax, (values, title, cmap, low, high, label) in zip(axes, panels, strict=True):
        drawn = ax.imshow(values.detach().cpu(), cmap=cmap, vmin=low, vmax=high)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=10)
        figure.colorbar(drawn, ax=ax, fraction=0.046, label=label)
    return figure


def draw_scales(share: Tensor) -> Figure:
    """One map (h, w) of shares twice: on the scale of a mask, and on its own."""
    figure = new_figure(5.4, 2.4)
    for ax, high, title in zip(
        figure.subplots(1, 2), (1, float(share.max())), ("0 to 1", "0 to its maximum"), strict=True
    ):
        drawn = ax.imshow(share.cpu(), cmap=HEAT, vmin=0, vmax=high)
        ax.set(xticks=[], yticks=[], title=title)
        figure.colorbar(drawn, ax=ax, fraction=0.046, label="share of attention")
    return figure


def draw_learning(losses: Sequence[float], maps: Mapping[int, Tensor]) -> Figure:
    """The loss at each step, and the maps (h, w) of some of them, {step: map}, on one scale."""
    figure = new_figure(2.6 + 2 * len(maps), 2.5)
    axes = figure.subplots(1, 1 + len(maps))
    axes[0].plot(losses, color="black")
    axes[0].plot(list(maps), [losses[i] for i in maps], "o", color=ORANGE)
    axes[0].set(title="loss", xlabel="step", ylim=(0, None))
    high = max(float(heat.max()) for heat in maps.values())
    for ax, (i, heat) in zip(axes[1:], maps.items(), strict=True):
        drawn = ax.imshow(heat.cpu(), cmap=HEAT, vmin=0, vmax=high)
        ax.set(xticks=[], yticks=[], title=f"step {i}")
    figure.colorbar(drawn, ax=list(axes[1:]), label="share of attention", fraction=0.03)
    return figure


def draw_masks(unseen: Sequence[Annotated], found: Mapping[str, Sequence[Tensor]]) -> Figure:
    """A column for each scene: the image, and beneath it what each mask cuts out of it, with its IoU."""
    figure = new_figure(1.55 * len(unseen), 1.75 * (1 + len(found)))
    axes = figure.subplots(1 + len(found), len(unseen), squeeze=False)
    for i, seen in enumerate(unseen):
        column, image = axes[:, i], seen.picture.image
        column[0].imshow(image)
        column[0].set_title(f"{seen.picture.objects[0].style} · {seen.picture.ground}", fontsize=9)
        for ax, (name, guesses) in zip(column[1:], found.items(), strict=True):
            ax.imshow(cut_out(image, guesses[i]))
            ax.set_title(f"{name}: {iou(guesses[i], seen.mask):.2f}", fontsize=9)
        for ax in column:
            ax.set(xticks=[], yticks=[])
    return figure


def cut_out(image: np.ndarray, mask: Tensor) -> np.ndarray:
    """An image (h, w, 3) uint8 of which only the mask (h, w) is left, on white."""
    return np.where(mask.cpu().numpy()[..., None], image, np.uint8(255))


def draw_journeys(curves: Mapping[str, Tensor]) -> Figure:
    """{how: (scene, FOLLOWED, 2)}, as `token_lessons.journeys` gives it: thin lines, and their mean."""
    figure = new_figure(9, 3.2)
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    kinds = (("annotated image", BLUE, "o-", -14), ("unseen images", ORANGE, "s--", 8))
    for ax, (how, each) in zip(axes, curves.items(), strict=True):
        for column, (label, colour, style, lift) in enumerate(kinds):
            ax.plot(FOLLOWED, each[..., column].T, color=colour, alpha=0.25, linewidth=0.8)
            line = each[..., column].mean(dim=0)
            ax.plot(FOLLOWED, line, style, color=colour, markersize=4)
            ax.annotate(
                label,
                (FOLLOWED[-1], line[-1]),
                (0, lift),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
        ax.set(title=how, xlabel="evaluation of the loss", yscale="log")
        ax.set_yticks((0.05, 0.1, 0.2, 0.5, 1), ("0.05", "0.1", "0.2", "0.5", "1"))
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("cross-entropy of map and mask")
    return figure


def measured() -> dict:
    """Stored results of `python -m workshop.measure.token_worth`: {asked how: {objects: {row: [mIoU]}}}."""
    return json.loads(FIGURES.read_text("utf-8"))["miou"]


def draw_worth(objects: str) -> Figure:
    """The stored mIoU of word and tokens, over all classes, for scenes of "1 object(s)" or "2 object(s)"."""
    table = measured()
    names = list(table["word"][objects])
    figure = new_figure(8, 0.8 + 0.5 * len(names))
    ax = figure.subplots()
    for y, row in enumerate(names):
        five, start, average = (
            table[how][objects][row] for how in ("token", "start only", "average of five")
        )
        ax.axhspan(y - 0.42, y + 0.42, color="0.96")
        ax.plot(five, [y] * len(five), ".", color=ORANGE, alpha=0.5, markersize=5)
        _mark(ax, sum(start) / len(start), y, "x", "black", "learned beside the start token alone", y == 0)
        _mark(ax, table["word"][objects][row][0], y - 0.2, "D", "black", "the word", y == 0)
        _mark(ax, sum(five) / len(five), y, "o", ORANGE, "tokens of one annotation, and their mean", y == 0)
        _mark(ax, average[0], y + 0.2, "s", BLUE, "the average of five tokens", y == 0)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="mIoU", title=ROWS[objects])
    ax.set(ylim=(len(names) - 0.5, -0.5), xlim=REACH)
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    sign(figure, "stored results of the bundled model")
    return figure


def _mark(ax: Axes, x: float, y: float, marker: str, colour: str, label: str, first: bool) -> None:
    ax.plot([x], [y], marker, color=colour, label=label if first else None, linestyle="none")


def vector_map(trace, others: Tensor, vector: Tensor, blocks) -> Tensor:
    """The share of attention (h, w) of a class `vector` (dim,) among `others` (token, dim)."""
    return trace.maps(torch.cat([others, vector[None]]), blocks=blocks).share.values[-1].cpu()
