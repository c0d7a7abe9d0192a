"""The map of the course: the road from a prompt to a mask, with the chapters on it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plot.diagrams import arrow, box, drawing, note

WIDE, HIGH, STEP = 1.85, 1.0, 2.5
ROWS = (0.35, 2.05, 3.75)  # where boxes stand: what is added below, the road, what is said about it above


def diagram() -> Figure:
    """Boxes are things, arrows what is done with them; the bold numbers are chapters."""
    figure, ax = drawing(5 * STEP + WIDE + 0.2, 4.95, scale=0.66)
    prompt = _thing(ax, 0, 1, "a prompt", "text")
    model = _thing(ax, 1, 1, "diffusion\nmodel", "plain", "01")
    trace = _thing(ax, 2, 1, "recording", "attention", "02")
    maps = _thing(ax, 3, 1, "maps of\nany word", "attention", "03")
    fine = _thing(ax, 4, 1, "sharpened\nmaps", "attention", "04")
    masks = _thing(ax, 5, 1, "masks", "result")
    for start, end, does in (
        (prompt, model, "draw"),
        (model, trace, "listen"),
        (trace, maps, "ask"),
        (maps, fine, "join"),
        (fine, masks, "cut"),
    ):
        arrow(ax, start, end, does)
    given = _thing(ax, 1, 0, "a picture that\nit did not make", "image", "06")
    better = _thing(ax, 3, 0, "a better word", "text", "05")
    cause = _thing(ax, 1, 2, "attention\nchanged", "attention", "09")
    wrong = _thing(ax, 3, 2, "where it\ngoes wrong", "plain", "10")
    number = _thing(ax, 5, 2, "a number:\nis it true?", "plain", "07")
    learner = _thing(ax, 5, 0, "labels that\nteach a network", "result", "08")
    _upright(ax, given, model, "show once")
    _upright(ax, better, maps, "ask with it")
    _upright(ax, cause, model, "intervene")
    _upright(ax, wrong, maps, "diagnose")
    _upright(ax, masks, number, "measure")
    _upright(ax, masks, learner, "train")
    return figure


def _thing(ax: Axes, column: int, row: int, text: str, kind: str, chapter: str = "") -> tuple[float, ...]:
    """A box on the map, its chapter's number in its upper corner."""
    x, y = 0.1 + column * STEP, ROWS[row]
    drawn = box(ax, x, y, text, kind, width=WIDE, height=HIGH, size=8.5)
    if chapter:
        ax.text(x + 0.08, y + HIGH - 0.07, chapter, ha="left", va="top", fontsize=8, fontweight="bold")
    return drawn


def _upright(ax: Axes, start: tuple[float, ...], end: tuple[float, ...], does: str) -> None:
    """An arrow up or down, what it does at its right."""
    arrow(ax, start, end)
    low, high = sorted((start[1], end[1]))
    note(ax, start[0] + WIDE / 2 + 0.1, (low + HIGH + high) / 2 + 0.14, does, size=8)
