"""How often a place names its object first: the stored measurement, as a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..emoji import words
from ..notebook import sign
from ..plot.figures import new_figure

SCENE_WORDS = tuple(
    sorted(
        {name for names in words.NAMES.values() for name in names}
        | {*words.HELD_OUT, *words.HYPERNYMS, *words.GROUND_PHRASES}
    )
)
"""What the bundled model's pictures show, in all the words there are for it."""
RESULT = Path(__file__).parents[1] / "assets" / "results" / "places.json"
KINDS = {  # kind of word → its name in the figure, its colour (Okabe-Ito)
    "class": ("class name or synonym", "#0072B2"),
    "held out": ("held-out word", "#E69F00"),
    "hypernym": ("hypernym", "#009E73"),
}


def stored() -> dict[str, Any]:
    """What `python -m workshop.measure.places` measured: "first", the numbers of words counted, and "rows":
    "grid | mask or pixel | kind of word" → "own", "control", "chance", a share for each of these numbers."""
    return json.loads(RESULT.read_text("utf-8"))


def draw_accuracy(row: str = "16×16", place: str = "mask") -> Figure:
    """How often one of the object's words is among the first words of its own place; open: of the other
    object's place. `row` and `place` as in `stored`."""
    found = stored()
    figure = new_figure(6.6, 3.2)
    ax = figure.subplots()
    at = range(len(found["first"]))
    for kind, (name, colour) in KINDS.items():
        values = found["rows"][f"{row} | {place} | {kind}"]
        ax.plot(at, values["own"], "o-", color=colour, label=name)
        ax.plot(at, values["control"], "o--", color=colour, markerfacecolor="white", linewidth=1)
    chance = found["rows"][f"{row} | {place} | class"]["chance"]
    ax.plot(at, chance, ":", color="0.4", label="any order (chance)")
    ax.plot([], [], "o--", color="0.4", markerfacecolor="white", label="the other object's place")
    ax.set_xticks(at, [f"first {k}" if k > 1 else "first" for k in found["first"]])
    ax.set(ylabel="share of the objects", ylim=(-0.03, 1), xlim=(-0.2, len(at) - 0.8))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    sign(figure, f"stored results, {found['scenes']} scenes" if "scenes" in found else "stored results")
    return figure
