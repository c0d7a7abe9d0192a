"""Where attention lives in a UNet, drawn from a recording of it."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from matplotlib.figure import Figure

from ..select import Grid, show_grid
from ..trace import Trace
from .figures import new_figure

# Okabe-Ito: they differ for any colour vision, and by their place in the drawing.
COLOURS = {"down": "#0072B2", "mid": "#E69F00", "up": "#009E73"}


def draw_unet(trace: Trace) -> Figure:
    """The UNet as the recorded image went through it: one box per stage and grid, skip connections dashed.

        with ov.record(pipe) as trace:
            pipe("a cat", num_inference_steps=1)
        draw_unet(trace)

    Each box gives the grid of its cross-attentions, how many there are, and their heads × head_dim. With each
    goes a self-attention of the same heads. Stages without attention are left out.
    """
    stages = _stages(trace)
    if not stages:
        raise ValueError("This trace is empty: generate an image inside `with ov.record(pipe) as trace:`.")
    sides = sorted({max(grid) for _, grid in stages}, reverse=True)
    figure = new_figure(1.35 * len(stages) + 0.6, 1.0 * len(sides) + 0.6)
    ax = figure.subplots()
    places: dict[tuple[str, int], tuple[float, float]] = {}
    for x, ((stage, grid), names) in enumerate(stages.items()):
        y = -sides.index(max(grid))
        part = stage.split("_")[0]
        block = trace.blocks[names[0]]
        head_dim = trace.key_weights[names[0]].shape[1] // block.heads
        ax.text(
            x,
            y,
            f"{stage}\n{show_grid(grid)}\n{len(names)} × cross-attention\n{block.heads} heads × {head_dim}",
            ha="center",
            va="center",
            fontsize=7.5,
            linespacing=1.35,
            color="white" if part != "mid" else "black",
            bbox={"boxstyle": "round,pad=0.45", "facecolor": COLOURS[part], "edgecolor": "none"},
        )
        places.setdefault((part, max(grid)), (x, y))
    ordered = [(x, -sides.index(max(grid))) for x, (_, grid) in enumerate(stages)]
    for (x0, y0), (x1, y1) in pairwise(ordered):
        ax.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-", "color": "0.45"}, zorder=0)
    for side in sides:
        if ("down", side) in places and ("up", side) in places:
            (x0, y0), (x1, _) = places["down", side], places["up", side]
            ax.plot([x0, x1], [y0, y0], linestyle="--", color="0.6", linewidth=1, zorder=0)
    ax.set(xlim=(-0.7, len(stages) - 0.3), ylim=(0.6 - len(sides), 0.6))
    ax.set_axis_off()
    return figure


def _stages(trace: Trace) -> dict[tuple[str, Grid], list[str]]:
    """(stage, grid) → its cross-attentions, in the order in which the image passes them."""
    stages: dict[tuple[str, Grid], list[str]] = defaultdict(list)
    for name, block in trace.blocks.items():
        stages[name.split(".attentions")[0], block.grid].append(name)
    return stages
