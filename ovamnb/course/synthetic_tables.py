"""What is stored of the synthetic sets and of the networks that learned from them: numbers and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.report import read_table
from ..notebook import sign
from ..plot.figures import new_figure

RESULTS = Path(__file__).resolve().parents[1] / "assets/results/synthetic"
SETS = {
    "one object": "filters.csv",
    "two objects in half of the prompts": "pairs.csv",
    "one object, an earlier and weaker model": "earlier/filters.csv",
}
BLUE, ORANGE, BLACK = "#0072B2", "#D55E00", "#000000"
MIXES = {
    "real": ("real", "real", BLACK, "o-"),
    "ours + real": ("ours", "both", ORANGE, "s-"),
    "ours, then real": ("ours", "then", ORANGE, "^--"),
    "pairs + real": ("pairs", "both", BLUE, "s-"),
    "pairs, then real": ("pairs", "then", BLUE, "^--"),
}
"""How a network's training is mixed: name → (source, mix) in the table, colour, line."""
LABELS = {
    "ours": "drawn, our labels",
    "paper": "drawn, OVAM's steps",
    "judge": "drawn, the segmenter's",
    "attention": "rendered, attention's",
    "exact": "rendered, exact",
}
SUSPECTS = {"masks": ("exact", "attention"), "words": ("judge", "ours"), "pictures": ("exact", "judge")}
"""Suspect → the labels that are free of it, and the labels that are not."""
STORED = "stored results of the bundled model"


def pictures() -> list[dict]:
    """What is known of each of the 420 pictures of the first set: name, classes, areas, scores, iou."""

    def numbers(cell: object) -> list[float]:
        return [float(value) for value in str(cell).split(";")]

    return [
        row
        | {
            "classes": row["classes"].split(";"),
            "areas": numbers(row["areas"]),
            "scores": numbers(row["scores"]),
        }
        for row in read_table(RESULTS / "pictures.csv")
    ]


def passed(name: str) -> dict[str, dict]:
    """Filter → what remains of a set of SETS after it: pictures, shown, mask miou, miou, low, high."""
    rows = read_table(RESULTS / SETS[name])
    return {row["filter"]: row for row in rows if row["masks"] == "SegmentationClass"}


def learned(source: str, mix: str, k: int, table: str = "scores.csv") -> np.ndarray:
    """The mIoU of each seed of a network that learned from a source with k real scenes."""
    rows = read_table(RESULTS / table)
    return np.array(
        [row["miou"] for row in rows if (row["source"], row["mix"], row["k"]) == (source, mix, k)]
    )


def sizes() -> list[int]:
    """How many real scenes there were."""
    return sorted({int(row["k"]) for row in read_table(RESULTS / "scores.csv") if row["mix"] == "real"})


def winner(k: int) -> str:
    """The mix of MIXES with the best mean at k real scenes."""
    return max(MIXES, key=lambda name: learned(*MIXES[name][:2], k).mean())


def worth(labels: str, pairs: bool = False) -> np.ndarray:
    """The mIoU of each seed of a network that learned from these LABELS alone; empty where not measured."""
    source = labels if not pairs else "pairs" if labels == "ours" else f"pairs-{labels}"
    return np.array([row["miou"] for row in read_table(RESULTS / "why.csv") if row["source"] == source])


def costs() -> dict[str, float]:
    """What each suspect costs in mIoU, one object in a picture; "objects": what a second one adds."""
    found = {name: worth(good).mean() - worth(bad).mean() for name, (good, bad) in SUSPECTS.items()}
    found["objects"] = worth("ours", pairs=True).mean() - worth("ours").mean()
    return {name: float(value) for name, value in found.items()}


def masks_and_labels(names: Sequence[str]) -> Figure:
    """mIoU of masks (where the segmenter sees the class) and of labels, before and after the filters."""
    figure = new_figure(8, 0.8 * len(names) + 1.2)
    sign(figure, STORED)
    ax = figure.subplots()
    for y, name in enumerate(names):
        rows = passed(name)
        for key, colour, marker, lift in (("mask miou", BLUE, "o", -0.12), ("miou", ORANGE, "s", 0.12)):
            before, after = rows["none"][key], rows["all"][key]
            ax.plot([before, after], [y + lift] * 2, "-", color=colour, alpha=0.5)
            ax.plot(before, y + lift, marker, color=colour, markerfacecolor="white", markersize=8)
            ax.plot(after, y + lift, marker, color=colour, markersize=8)
    for label, colour, marker in (("masks", BLUE, "o"), ("labels", ORANGE, "s")):
        ax.plot([], [], marker, color=colour, label=f"{label} (hollow: before the filters)", linestyle="none")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="mIoU against the segmenter's labels")
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def curves() -> Figure:
    """What a network sees after learning from each mix, by the number of real scenes; mean and spread."""
    figure = new_figure(8, 3.6)
    sign(figure, STORED)
    ax = figure.subplots()
    for shift, (name, (source, mix, colour, style)) in zip(
        (1, 0.97, 0.94, 1.03, 1.06), MIXES.items(), strict=True
    ):
        found = [learned(source, mix, k) for k in sizes()]
        middle, spread = [v.mean() for v in found], [v.std(ddof=1) for v in found]
        places = np.array(sizes()) * shift
        ax.errorbar(places, middle, spread, fmt=style, color=colour, capsize=3, label=name)
    for source, colour in (("ours", ORANGE), ("pairs", BLUE)):
        ax.axhline(
            learned(source, "synthetic", 0).mean(), color=colour, linestyle=":", label=f"{source} alone"
        )
    ax.set(xscale="log", xticks=sizes(), xticklabels=sizes(), ylim=(0, None))
    ax.set(xlabel="real scenes with exact labels", ylabel="mIoU on real scenes")
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def suspects() -> Figure:
    """What each kind of labels is worth alone, with one object in a picture and with two in half of them."""
    figure = new_figure(9, 3)
    sign(figure, STORED)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for pairs, (ax, title) in enumerate(
        zip(axes, ("one object", "two objects in half of them"), strict=True)
    ):
        for y, labels in enumerate(LABELS):
            values = worth(labels, bool(pairs))
            if len(values):
                ax.barh(y, values.mean(), color=ORANGE if "drawn" in LABELS[labels] else BLUE, alpha=0.6)
                ax.plot(values, np.full(len(values), y), "o", color="black", markersize=4)
            else:
                ax.text(0.005, y, "not measured", va="center", color="0.4", fontsize=8)
        ax.set(title=title, xlabel="mIoU on real scenes (bar: mean, dots: seeds)")
    axes[0].set_yticks(range(len(LABELS)), list(LABELS.values()))
    axes[0].invert_yaxis()
    return figure


def gains(names: Mapping[str, tuple[str, str, str]]) -> dict[str, dict[int, float]]:
    """Name → real scenes → what a (source, mix, table) gains over the real scenes alone."""
    return {
        name: {
            k: float(learned(source, mix, k, table).mean() - learned("real", "real", k, table).mean())
            for k in sizes()
        }
        for name, (source, mix, table) in names.items()
    }
