"""Drawn by code: boxes, arrows and small grids of cells, for the one drawing that each chapter has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from ..notebook import sign
from .figures import HEAT, new_figure

INK = "0.2"
FACES = {  # Okabe-Ito, light enough for black text; what is meant stands in words as well
    "image": "#cfe8f7",
    "text": "#ffe2b3",
    "attention": "#c7ecdf",
    "result": "#f3d3e6",
    "plain": "#eeeeee",
}


def drawing(width: float, height: float, *, scale: float = 0.9) -> tuple[Figure, Axes]:
    """An empty drawing: `width` × `height` units, y upwards, a unit `scale` inches.

    figure, ax = drawing(10, 3)
    start, end = box(ax, 0.2, 1, "prompt", "text"), box(ax, 4, 1, "text encoder")
    arrow(ax, start, end, "words")
    """
    figure = new_figure(width * scale, height * scale)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    sign(figure, "")  # a drawing is no picture of a model's
    return figure, ax


def box(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    kind: str = "plain",
    *,
    width: float = 1.8,
    height: float = 0.8,
    size: float = 9,
    dashed: bool = False,
) -> tuple[float, float, float, float]:
    """A box with text, its lower left corner at (x, y); `kind` names a colour in FACES, `dashed` one that is
    only imagined. Returns (x, y, width, height), which `arrow` takes."""
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=FACES[kind],
            edgecolor=INK,
            linewidth=1,
            linestyle="--" if dashed else "-",
        )
    )
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, linespacing=1.25)
    return x, y, width, height


def arrow(
    ax: Axes,
    start: tuple[float, ...],
    end: tuple[float, ...],
    text: str = "",
    *,
    dashed: bool = False,
    curve: float = 0.0,
    size: float = 8,
) -> None:
    """An arrow from a box (or a point) to another, from side to side where they stand side by side, else from
    top to bottom; `text` stands above its middle, `curve` bends it."""
    (x0, y0), (x1, y1) = _ends(start, end)
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.1, "linestyle": "--" if dashed else "-"}
    ax.annotate(
        "",
        (x1, y1),
        (x0, y0),
        arrowprops=style | {"connectionstyle": f"arc3,rad={curve}", "shrinkA": 1, "shrinkB": 1},
    )
    if text:
        lift = 0.1 + abs(curve) * np.hypot(x1 - x0, y1 - y0) / 2
        ax.text((x0 + x1) / 2, (y0 + y1) / 2 + lift, text, ha="center", va="bottom", fontsize=size)


def cells(
    ax: Axes,
    x: float,
    y: float,
    values: np.ndarray | Sequence[Sequence[float]],
    *,
    cell: float = 0.45,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    numbers: bool = True,
    size: float = 8,
) -> tuple[float, float, float, float]:
    """A small matrix as coloured cells, its upper left corner at (x, y), darker where the value is smaller;
    `rows` and `columns` name them. Returns its box (x, y, width, height)."""
    values = np.asarray(values, float)
    from matplotlib import colormaps

    span = float(values.max() - values.min()) or 1.0
    for (i, j), value in np.ndenumerate(values):
        part = (value - values.min()) / span
        ax.add_patch(
            Rectangle(
                (x + j * cell, y - (i + 1) * cell),
                cell,
                cell,
                facecolor=colormaps[HEAT](part),
                edgecolor="white",
            )
        )
        if numbers:
            ax.text(
                x + (j + 0.5) * cell,
                y - (i + 0.5) * cell,
                f"{value:.2g}",
                ha="center",
                va="center",
                fontsize=size - 1,
                color="white" if part < 0.6 else "black",
            )
    for i, name in enumerate(rows):
        ax.text(x - 0.08, y - (i + 0.5) * cell, name, ha="right", va="center", fontsize=size)
    for j, name in enumerate(columns):
        ax.text(x + (j + 0.5) * cell, y + 0.08, name, ha="center", va="bottom", fontsize=size)
    h, w = values.shape
    if title:
        ax.text(x + w * cell / 2, y - h * cell - 0.1, title, ha="center", va="top", fontsize=size)
    return x, y - h * cell, w * cell, h * cell


def note(ax: Axes, x: float, y: float, text: str, *, size: float = 8.5, ha: str = "left") -> None:
    """Words beside a drawing, their upper corner at (x, y)."""
    ax.text(x, y, text, ha=ha, va="top", fontsize=size, linespacing=1.3, color=INK)


def questions(steps: Sequence[tuple[str, str, str]]) -> Figure:
    """A row of boxes joined by arrows, with a question below each: (text, kind, question)."""
    figure, ax = drawing(2.45 * len(steps) + 0.15, 2.3)
    boxes = [box(ax, 0.2 + 2.45 * i, 1.3, text, kind, width=1.9) for i, (text, kind, _) in enumerate(steps)]
    for start, end in pairwise(boxes):
        arrow(ax, start, end)
    for (x, _, width, _), (_, _, question) in zip(boxes, steps, strict=True):
        note(ax, x + width / 2, 1.1, question, ha="center")
    return figure


def _ends(
    start: tuple[float, ...], end: tuple[float, ...]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow between two boxes (x, y, width, height) or points (x, y) begins and ends."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = ((*place, 0.0, 0.0)[:4] for place in (start, end))
    middle0, middle1 = (x0 + w0 / 2, y0 + h0 / 2), (x1 + w1 / 2, y1 + h1 / 2)
    if x0 + w0 <= x1:
        return (x0 + w0, middle0[1]), (x1, middle1[1])
    if x1 + w1 <= x0:
        return (x0, middle0[1]), (x1 + w1, middle1[1])
    if y0 > y1:
        return (middle0[0], y0), (middle1[0], y1 + h1)
    return (middle0[0], y0 + h0), (middle1[0], y1)
