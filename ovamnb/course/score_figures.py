"""The evaluations' stored results as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from ..notebook import sign
from ..plot.figures import new_figure
from .score_tables import PAPER, SETS, ablation, decisions, find, scores

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.45"
COLOUR = {"words": BLUE, "tokens": ORANGE}
BY = (("words", BLUE, "o"), ("tokens", ORANGE, "s"))
STORED = "stored results of the bundled model"


def _figure(width: float, height: float) -> Figure:
    figure = new_figure(width, height)
    sign(figure, STORED)
    return figure


def pixels(labels: Mapping[str, Tensor], names: Mapping[int, str]) -> Figure:
    """Small label images (h, w) side by side, each pixel with its class's name; 255 is a question mark."""
    figure = new_figure(2.6 * len(labels), 2.7)
    colours = ListedColormap(["#f0f0f0", BLUE, "#E69F00"])
    axes = np.atleast_1d(figure.subplots(1, len(labels)))
    for ax, (title, values) in zip(axes, labels.items(), strict=True):
        array = values.numpy().astype(float)
        ax.imshow(np.where(array == 255, np.nan, array), cmap=colours, vmin=0, vmax=2)
        for (row, column), label in np.ndenumerate(array.astype(int)):
            word = "?" if label == 255 else names.get(int(label), "")
            ax.text(column, row, word, ha="center", va="center", color="white" if label == 1 else "black")
        ax.set(title=title, xticks=[], yticks=[])
    sign(figure, "")
    return figure


def thresholds(methods: Sequence[str], name: str = "emoji-sim") -> Figure:
    """mIoU of some methods at the paper's threshold, at the one chosen on validation pictures, and at the
    best on the test pictures themselves."""
    figure = _figure(8, 0.42 * 2 * len(methods) + 1.1)
    ax = figure.subplots()
    labels = []
    marks = ((PAPER, "D", "white", "the paper's"), ("mIoU", "o", None, "chosen on validation pictures"))
    for y, (method, by) in enumerate((method, by) for method in methods for by in ("words", "tokens")):
        row, colour = find(name, method, by), COLOUR[by]
        ax.plot([row[PAPER], row["at the best"]], [y, y], color="0.8", zorder=0)
        for key, marker, face, _ in marks:
            ax.plot(row[key], y, marker, color=colour, markerfacecolor=face or colour, markersize=8)
        ax.plot(row["at the best"], y, "|", color="black", markersize=16)
        labels.append(f"{method}, by {by}")
    for _, marker, face, label in marks:
        ax.plot([], [], marker, color="0.3", markerfacecolor=face or "0.3", label=label, linestyle="none")
    ax.plot([], [], "|", color="black", markersize=12, label="best on the test pictures", linestyle="none")
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set(xlabel=f"mIoU, {name}", xlim=(0, 1))
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


def published_and_true(rows: Sequence[tuple[int, float, float]]) -> Figure:
    """The score on the pictures that a method was chosen on, and on all others, by how many those were."""
    figure = _figure(5.2, 3)
    ax = figure.subplots()
    sizes, on_seen, on_others = zip(*rows, strict=True)
    for values, colour, marker, label in (
        (on_seen, ORANGE, "s", "on the pictures it was chosen on"),
        (on_others, BLUE, "o", "the same method on all others"),
    ):
        ax.plot(sizes, values, f"{marker}-", color=colour, label=label)
    ax.set(xlabel="pictures that the best of all rows was chosen on", ylabel="mIoU, mean of 300 choices")
    ax.set_xticks(sizes)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def resamplings(drawn: Mapping[str, np.ndarray]) -> Figure:
    """Two methods' bootstrap draws, (draw,) each, and the difference of each draw."""
    (first, one), (second, other) = drawn.items()
    figure = _figure(9, 2.8)
    left, right = figure.subplots(1, 2)
    every = np.concatenate([one, other])
    bins = np.linspace(every.min(), every.max(), 60)
    left.hist(other, bins, color=BLUE, alpha=0.7, label=second)
    left.hist(one, bins, color=ORANGE, alpha=0.7, label=first)
    left.set(xlabel="mIoU of a draw", ylabel="draws")
    right.hist(one - other, 40, color=GREY)
    right.axvline(0, color="black", linewidth=1)
    right.set(xlabel="difference, same draw")
    right.locator_params(axis="x", nbins=5)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def _with_intervals(ax, name: str, methods: Sequence[str], gap: float) -> None:
    """Methods' scores on a set, from the bottom up, given words and given tokens, with their intervals."""
    for (by, colour, marker), shift in zip(BY, (-gap, gap), strict=True):
        rows = [find(name, method, by) for method in methods]
        middle = np.array([row["mIoU"] for row in rows])
        sides = [middle - [row["low"] for row in rows], [row["high"] for row in rows] - middle]
        options = {"fmt": marker, "color": colour, "capsize": 2, "markersize": 4, "label": f"by {by}"}
        ax.errorbar(middle, np.arange(len(methods)) - shift, xerr=np.clip(sides, 0, None), **options)
    ax.set(title=name, xlabel="mIoU", xlim=(0, 1), xticks=(0.2, 0.4, 0.6, 0.8))
    ax.grid(axis="x", alpha=0.3)


def _hollow(ax, places, values: Mapping[str, Sequence[float]]) -> None:
    """A second value of each method, by words and by tokens: hollow marks."""
    for (by, colour, marker), shift in zip(BY, (-0.13, 0.13), strict=True):
        look = {
            "color": colour,
            "markerfacecolor": "none",
            "alpha": 0.6,
            "markersize": 5,
            "linestyle": "none",
        }
        ax.plot(values[by], places - shift, marker, **look)


def side_by_side(papers: int) -> Figure:
    """All methods, as they are, on all sets, by words and by tokens, with intervals; on grey the first
    `papers`, which follow the papers."""
    plain = [row for row in scores("emoji-sim") if row["asked by"] == "words" and not row["tried"] > 1]
    order = [row["method"] for row in plain][::-1]
    figure = _figure(11.5, 4.6)
    axes = figure.subplots(1, len(SETS), sharex=True, sharey=True)
    for ax, name in zip(axes, SETS, strict=True):
        _with_intervals(ax, name, order, 0.13)
        at = {by: [find(name, method, by)[PAPER] for method in order] for by, *_ in BY}
        _hollow(ax, np.arange(len(order)), at)
        ax.axhspan(len(order) - papers - 0.5, len(order) - 0.5, color="0.93", zorder=0)
    axes[0].set_yticks(range(len(order)), order)
    handles, labels = axes[0].get_legend_handles_labels()
    title = "hollow: at the paper's threshold; on grey: in the papers' order of steps"
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, title=title)
    return figure


def before_and_after(methods: Sequence[str]) -> Figure:
    """Methods as they are (hollow) and tuned alike (filled, with intervals) on all sets."""
    order = methods[::-1]
    figure = _figure(11.5, 2.5)
    axes = figure.subplots(1, len(SETS), sharex=True, sharey=True)
    for ax, name in zip(axes, SETS, strict=True):
        _with_intervals(ax, name, [f"{method}, tuned" for method in order], 0.13)
        as_it_is = {by: [find(name, method, by)["mIoU"] for method in order] for by, *_ in BY}
        _hollow(ax, np.arange(len(order)), as_it_is)
    axes[0].set_yticks(range(len(order)), order)
    handles, labels = axes[0].get_legend_handles_labels()
    title = "hollow: as it is; filled: tuned alike, with intervals"
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, title=title)
    return figure


def taken_decisions(methods: Sequence[str]) -> Figure:
    """What each decision was worth when a method's settings were chosen: mIoU on validation pictures, from
    the plain method down to the last decision; hollow where the best setting was no better and so not
    taken."""
    figure = _figure(9, 2.8)
    axes = np.atleast_1d(figure.subplots(1, len(methods), sharex=True))
    for ax, method in zip(axes, methods, strict=True):
        rows = decisions(method)
        for y, (_, _, value, taken) in enumerate(rows):
            ax.plot(value, y, "o", color=BLUE, markerfacecolor=BLUE if taken else "none")
        ax.set_yticks(range(len(rows)), ["as it is", *(setting for _, setting, _, _ in rows[1:])])
        ax.set(title=method, xlabel="mIoU, validation pictures", ylim=(len(rows) - 0.5, -0.5))
        ax.grid(axis="x", alpha=0.3)
    for face, label in ((BLUE, "better, and kept"), ("none", "no better, and dropped")):
        axes[0].plot([], [], "o", color=BLUE, markerfacecolor=face, label=label)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def bars(table: Mapping[str, Mapping[object, float]], label: str) -> Figure:
    """A group of bars for each column of `table` (row → column → mIoU), a colour for each row."""
    colours = (BLUE, "#56B4E9", "#009E73", "#E69F00", GREY)
    columns = list(next(iter(table.values())))
    figure = _figure(1.2 + 1.5 * len(columns), 3)
    ax = figure.subplots()
    width = 0.8 / len(table)
    for i, (name, values) in enumerate(table.items()):
        x = np.arange(len(columns)) + (i - (len(table) - 1) / 2) * width
        ax.bar(x, [values[column] for column in columns], width, color=colours[i], label=name)
    ax.set_xticks(range(len(columns)), columns)
    ax.set(ylabel="mIoU", xlabel=label, ylim=(0, 1))
    ax.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


MEANING = {
    "blocks": "grid of the blocks (8 is 8 × 8)",
    "one step": "its number, 0 is the noisiest",
    "evenly spaced steps": "how many of 25",
    "last steps": "how many of 25",
}


def parts(groups: Sequence[str]) -> Figure:
    """The same method with less of a recording: mIoU for each setting of some groups of the ablations."""
    figure = _figure(3.6 * len(groups), 3.2)
    axes = figure.subplots(1, len(groups), sharey=True)
    for ax, group in zip(np.atleast_1d(axes), groups, strict=True):
        for shift, (by, colour, marker) in zip((-0.2, 0.2), BY, strict=True):
            labels, values, _ = ablation(group, by)
            if "step" in group:
                ax.plot([float(label) for label in labels], values, f"{marker}-", color=colour, markersize=4)
            else:
                ax.bar(np.arange(len(labels)) + shift, values, 0.38, color=colour)
                ax.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        ax.set(title=group, xlabel=MEANING[group], ylim=(0, 1))
        ax.grid(axis="y", alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("mIoU, emoji-sim")
    for by, colour, marker in BY:
        np.atleast_1d(axes)[0].plot([], [], marker, color=colour, label=f"by {by}", linestyle="none")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure
