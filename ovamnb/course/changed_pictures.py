"""Chapter 09: pictures beside what became of them, and what was measured on unchosen seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from matplotlib.figure import Figure

from ..notebook import sign
from ..pipelines import BUNDLED
from ..plot.figures import new_figure, overlay, to_pixels

RESULTS = BUNDLED.parent / "results" / "cause.json"  # python -m workshop.measure.cause
WAYS = {"keys": "keys only", "values": "values only", "both": "both"}
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
BLUE, ORANGE = "#0072B2", "#D55E00"
STORED = "stored results of the bundled model"


def sheet(
    rows: Mapping[str, Sequence],
    columns: Sequence[str] = (),
    *,
    heat=None,
    each: float = 1.15,
) -> Figure:
    """Pictures in rows, each row named at its left; `columns` are titles, `heat` (h, w) a map that is drawn
    over the first picture once more, in a column of its own."""
    h, w = to_pixels(next(iter(rows.values()))[0]).shape[:2]
    extra = heat is not None
    width = max(map(len, rows.values())) + extra
    figure = new_figure(each * width + 0.9, (each * h / w + 0.05) * len(rows) + 0.45)
    axes = figure.subplots(len(rows), width, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for i, (line, (name, pictures)) in enumerate(zip(axes, rows.items(), strict=True)):
        for j, picture in enumerate(pictures):
            line[j].imshow(to_pixels(picture))
            if i == 0 and j < len(columns):
                line[j].set_title(columns[j], fontsize=9)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        if extra and i < len(rows) - 1:
            line[-1].set_axis_off()
        elif extra:
            overlay(line[-1], pictures[0], heat)
            line[-1].set_title(columns[-1], fontsize=9)
            line[-1].set(xticks=[], yticks=[])
    return figure


@cache
def _results() -> dict:
    return json.loads(RESULTS.read_text("utf-8"))


def stored(part: str) -> list[dict]:
    """The rows of a part of the measurement: swap, layout, weight or forgotten, one for each seed."""
    return _results()[part]


def speck() -> float:
    """The share of a picture below which nothing counts as found."""
    return _results()["speck"]


def swapped() -> dict[str, tuple[float, float]]:
    """Way of swapping → (the share of cases that show the new class, the mean IoU with the plain object)."""
    rows = stored("swap")
    return {
        name: (
            float(np.mean([row[way]["other"] >= speck() for row in rows])),
            float(np.mean([row[way]["iou"] for row in rows])),
        )
        for way, name in WAYS.items()
    }


def where_it_stays() -> Figure:
    """For each way of swapping, the IoU of what is drawn with the plain picture's object, case by case."""
    figure = new_figure(5.2, 2.3)
    sign(figure, STORED)
    ax = figure.subplots()
    for i, (way, name) in enumerate(WAYS.items()):
        values = np.array([row[way]["iou"] for row in stored("swap")])
        ax.plot(values, i + np.linspace(-0.18, 0.18, len(values)), "o", color=BLUE, alpha=0.6, ms=5)
        ax.plot([values.mean()] * 2, [i - 0.32, i + 0.32], color=ORANGE, lw=2.5)
        ax.text(1.02, i, name, va="center", fontsize=9)
    ax.set(
        xlim=(-0.02, 1), yticks=[], ylim=(len(WAYS) - 0.5, -0.5), xlabel="IoU with the plain picture's object"
    )
    ax.set_title("a dot for each case, the mean in orange", fontsize=9)
    return figure


def weightless() -> list[tuple[str, float, float, str]]:
    """For each case, at weight 0: the word, the shares of the picture that show its object and that show any
    object, and what that means: "the object", "nothing" or "another object"."""
    found = []
    for row in stored("weight"):
        own, anything = (row[of][WEIGHTS.index(0.0)] for of in ("own", "any"))
        what = "the object" if own >= speck() else "another object" if anything >= speck() else "nothing"
        found.append((row["word"], own, anything, what))
    return found


def silenced() -> dict[str, dict[str, float]]:
    """Layer → {what was silenced there: the mean IoU of what is then drawn with the plain picture's object},
    in the order in which the UNet runs. What: a head's number, "all" of them, or "self", the self-attention
    beside it."""
    layers: dict[str, list[dict]] = {}
    for row in sorted(
        stored("silence"), key=lambda row: ("down", "mid", "up").index(row["block"].split("_")[0])
    ):
        stage, *numbers = row["block"].replace("_blocks", "").replace("_block", "").split(".")
        where = ".".join(part for part in numbers[:3] if part.isdigit() and stage != "mid")
        layers.setdefault(f"{stage} {where}".strip() + " · {}×{}".format(*row["grid"]), []).append(row)
    return {
        layer: {
            part: float(np.mean([row[part]["iou"] for row in same]))
            for part, said in same[0].items()
            if isinstance(said, dict)
        }
        for layer, same in layers.items()
    }


def one_by_one() -> Figure:
    """`silenced`, a layer in each row and in colours: the darker, the less of the object is left."""
    found = silenced()
    heads = sorted({part for each in found.values() for part in each if part.isdigit()}, key=int)
    columns = {head: f"head {head}" for head in heads} | {"all": "all heads", "self": "self-\nattention"}
    table = np.array([[each.get(part, np.nan) for part in columns] for each in found.values()])
    figure = new_figure(5.6, 0.27 * len(found) + 0.75)
    sign(figure, STORED)
    ax = figure.subplots()
    shown = ax.imshow(table, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            ax.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="k" if value > 0.5 else "w"
            )
    ax.axvline(len(heads) - 0.5, color="white", lw=3)
    ax.set_xticks(range(len(columns)), columns.values(), fontsize=8)
    ax.set_yticks(range(len(found)), found, fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.colorbar(shown, ax=ax, label="IoU with the\nplain object")
    return figure


def layouts() -> dict[str, dict[str, float]]:
    """ "plain" and "kept" → the mean IoU of the object that both prompts name ("same") and of all objects
    ("all"), and the share of cases that show the new word ("drawn")."""
    rows = stored("layout")
    return {
        way: {
            "same": float(np.mean([row[way]["same"] for row in rows])),
            "all": float(np.mean([row[way]["all"] for row in rows])),
            "drawn": float(np.mean([row[way]["other"] >= speck() for row in rows])),
        }
        for way in ("plain", "kept")
    }


def untouched() -> Figure:
    """The IoU of the object that nobody touched, a line for each case from plain to kept."""
    figure = new_figure(4.2, 2.6)
    sign(figure, STORED)
    ax = figure.subplots()
    pairs = np.array([[row[way]["same"] for way in ("plain", "kept")] for row in stored("layout")])
    ax.plot([0, 1], pairs.T, "o-", color=BLUE, alpha=0.6, ms=4)
    ax.plot([0, 1], pairs.mean(axis=0), "s-", color=ORANGE, lw=2.5, label="mean")
    ax.set(xticks=[0, 1], xticklabels=["drawn anew", "layout kept"], xlim=(-0.25, 1.25), ylim=(-0.03, 1.03))
    ax.set_ylabel("IoU of the other object")
    ax.legend(loc="lower right", frameon=False)
    return figure


def all_found(when: str) -> list[bool]:
    """For each case, whether cat, dog and car were all found "before" or "after" the latents were pushed."""
    return [min(row[when]) >= speck() for row in stored("forgotten")]


def losses(when: str) -> np.ndarray:
    """Of each case and word (n, 2): its loss before any push ("before") or at the last one ("after"), and
    its share of the picture."""
    found = []
    for row in stored("forgotten"):
        steps = sorted(row["losses"], key=int)
        looked = row["losses"][steps[0]][0] if when == "before" else row["losses"][steps[-1]][-1]
        found += list(zip(looked, row[when], strict=True))
    return np.array(found)


def looked_at_and_drawn() -> Figure:
    """Of each word of each case: the loss, and the share of the picture that shows it."""
    figure = new_figure(6.4, 2.6)
    sign(figure, STORED)
    for ax, (when, title) in zip(
        figure.subplots(1, 2, sharex=True, sharey=True),
        {"before": "not pushed, loss before any push", "after": "pushed, loss at the last push"}.items(),
        strict=True,
    ):
        loss, share = losses(when).T
        missing = share < speck()
        for which, color, mark, name in (
            (~missing, BLUE, "o", "there"),
            (missing, ORANGE, "X", "missing"),
        ):
            ax.plot(loss[which], share[which], mark, color=color, alpha=0.7, ms=6, label=name)
        ax.set(xlabel="loss of the word", xlim=(-0.05, 1), ylim=(-0.008, 0.17))
        ax.set_title(title, fontsize=9)
    figure.axes[0].set_ylabel("share of the picture")
    figure.axes[1].legend(loc="upper right", frameon=False)
    return figure
