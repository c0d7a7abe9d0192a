"""What the papers report, to be printed beside what is measured here. Quoted figures, each with its source.

    beside("ovam-voc-sim", "ovam+weights+crf", "tokens")     # 0.825
    print(table("ovam-voc-sim", {"daam": 0.65, "daam:token": 0.78}))

Figures stand here as they were printed, in percent; what the functions return is a share, 0 to 1, as
everywhere else. All are mIoU as in `metrics`: intersections and unions summed over the pictures class by
class, then the mean over the classes; without the background, but for DiffSegmenter's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..data import EARLIER
from ..data.pascal import VOC_CLASSES

OVAM = "arXiv 2403.14291"
DIFFSEGMENTER = "arXiv 2309.02773"
OWN = "scored on pictures of its own, not on these"
ASKED = ("words", "tokens")
TOKEN = ":token"
"""What stands behind a row's name where it queries with tokens."""


@dataclass(frozen=True)
class Figure:
    """A method's mIoU on a data set, in percent, queried by `words` and by optimised `tokens` (None: not
    reported). `source`: where it is printed; `note`: what one has to know to compare. `classes`: "words" and
    "tokens" → the IoU of each of VOC's classes, in their order, where that is printed, too. `background`:
    whether the background counts as a class."""

    words: float
    tokens: float | None
    source: str
    note: str = ""
    classes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    background: bool = False


@dataclass(frozen=True)
class Cut:
    """Where a paper cuts: the threshold of the map, and `floor`, the smallest weight by self-attention
    ("min_sa"); None without such weights."""

    threshold: float
    floor: float | None = None


def _saved(notebook: str) -> str:
    """Where the figures of the OVAM paper's experiments are saved."""
    return f"{OVAM}, saved in github.com/vpulab/ovam at 12afd87, experiments/evaluation/{notebook}.ipynb"


PICTURES = {"ovam-voc-sim": 490, "ovam-coco-cap": 707}
_DAAM = (
    "what the paper calls DAAM is OVAM's own map of the class's text, divided by its maximum; DAAM itself "
    "reads the prompt, and finds no class there that the prompt does not name"
)
_SWEPT = (
    "the background counts as a class, and its score is the one that is best on the very photographs: "
    'compare with "at the best, with background"'
)
FIGURES: dict[str, dict[str, Figure]] = {
    "ovam-voc-sim": {
        "ovam-map": Figure(
            66.2,
            79.7,
            source=_saved("daam/evaluation_daam"),
            note=_DAAM,
            classes={
                "words": (
                    *(50.0, 52.8, 72.0, 59.0, 68.2, 86.7, 79.3, 78.9, 34.2, 85.4),
                    *(24.6, 81.8, 81.6, 70.0, 53.1, 68.4, 86.2, 64.7, 52.0, 74.1),
                ),
                "tokens": (
                    *(68.8, 80.3, 83.1, 82.1, 85.4, 92.7, 88.7, 92.2, 47.6, 87.4),
                    *(30.8, 87.7, 85.9, 86.9, 82.9, 79.8, 89.6, 84.7, 88.8, 68.6),
                ),
            },
        ),
        "ovam+weights+crf": Figure(
            70.4,
            82.5,
            source=_saved("ovam_sa/evaluation_ovam_sa"),
            classes={
                "words": (
                    *(71.7, 60.6, 76.8, 70.9, 80.3, 91.3, 82.9, 72.3, 41.0, 89.8),
                    *(25.8, 77.5, 80.3, 78.0, 56.1, 67.1, 82.0, 74.4, 58.6, 70.0),
                ),
                "tokens": (
                    *(73.6, 81.5, 88.4, 83.8, 88.8, 93.1, 90.6, 93.1, 44.5, 92.5),
                    *(27.7, 92.9, 91.4, 88.9, 88.2, 85.6, 94.0, 86.9, 89.5, 74.6),
                ),
            },
        ),
        "datasetdm": Figure(80.3, 80.6, _saved("datasetdm/evaluation_datasetdm"), OWN),
        "grounded-diffusion": Figure(
            62.1,
            86.6,
            _saved("grounded_diffusion/evaluation_grounded_diffusion"),
            f"{OWN}; the abstract has 52.1 by words",
        ),
    },
    "ovam-coco-cap": {
        "ovam-map": Figure(
            48.4,
            66.1,
            source=_saved("daam/evaluation_daam"),
            note=_DAAM,
            classes={
                "words": (
                    *(30.6, 33.8, 53.0, 31.9, 19.1, 82.6, 42.8, 83.0, 16.8, 64.6),
                    *(93.1, 77.9, 49.8, 44.6, 22.7, 44.8, 68.6, 34.1, 44.6, 30.0),
                ),
                "tokens": (
                    *(59.1, 67.2, 67.0, 61.2, 39.8, 92.8, 63.4, 83.6, 26.5, 77.9),
                    *(87.3, 79.0, 67.3, 72.4, 56.9, 67.6, 72.4, 41.8, 78.0, 60.3),
                ),
            },
        ),
        "ovam+weights+crf": Figure(
            58.2,
            69.2,
            source=_saved("ovam_sa/evaluation_ovam_sa"),
            classes={
                "words": (
                    *(65.1, 64.3, 54.6, 51.9, 39.3, 84.9, 47.5, 67.9, 29.1, 76.5),
                    *(89.0, 65.8, 71.5, 69.4, 19.7, 54.1, 73.5, 36.9, 53.0, 50.6),
                ),
                "tokens": (
                    *(67.8, 68.4, 75.8, 64.6, 43.5, 94.5, 63.2, 87.6, 28.0, 82.4),
                    *(87.3, 81.9, 70.2, 74.2, 60.9, 70.9, 80.1, 42.1, 79.1, 61.6),
                ),
            },
        ),
        "datasetdm": Figure(59.3, 60.5, _saved("datasetdm/evaluation_datasetdm"), OWN),
        "grounded-diffusion": Figure(
            50.2, 73.2, _saved("grounded_diffusion/evaluation_grounded_diffusion"), OWN
        ),
    },
    "voc": {"diffsegmenter-paper": Figure(60.1, None, DIFFSEGMENTER, _SWEPT, background=True)},
    "context": {"diffsegmenter-paper": Figure(27.5, None, DIFFSEGMENTER, _SWEPT, background=True)},
    "coco-object": {"diffsegmenter-paper": Figure(37.9, None, DIFFSEGMENTER, _SWEPT, background=True)},
}
"""Data set → our row → what its paper reports of it."""

CUTS: dict[str, dict[str, dict[str, Cut]]] = {
    "ovam-voc-sim": {
        "daam": {"words": Cut(0.4)},
        "ovam-map": {"words": Cut(0.4), "tokens": Cut(0.8)},
        "attn2mask": {"words": Cut(0.4), "tokens": Cut(0.6)},
        "ovam+weights+crf": {"words": Cut(0.4, 0.85), "tokens": Cut(0.75, 0.95)},
    },
    "ovam-coco-cap": {
        "daam": {"words": Cut(0.4)},
        "ovam-map": {"words": Cut(0.4), "tokens": Cut(0.8)},
        "attn2mask": {"words": Cut(0.4), "tokens": Cut(0.6)},
        "ovam+weights+crf": {"words": Cut(0.5, 0.91), "tokens": Cut(0.8, 0.99)},
    },
}
"""Data set → our row → "words" and "tokens" → where the OVAM authors cut, before the CRF; DAAM's own
cut is the one of its paper, for words. Attn2Mask's are
(1 − β) / 2, where a map meets the background 1 − map − β; β is 0.2 and −0.2. From the notebooks above."""

BLOCKS: dict[str, tuple[float, float]] = {
    "16+32+64": (70.4, 82.5),
    "16+32": (67.0, 80.7),
    "16+64": (70.5, 82.2),
    "16": (71.5, 78.9),
    "32+64": (50.5, 74.9),
    "32": (30.5, 71.7),
    "64": (40.2, 43.5),
}
"""The sides of the grids whose blocks are summed → mIoU of "ovam+weights+crf" on VOC-sim in percent, by words
and by tokens: ablation_block_epochs/evaluation_ablation_blocks.ipynb of the notebooks above."""


def figure(data_name: str, row: str) -> Figure | None:
    """What a paper reports of a row of an evaluation, "daam" or "daam:token"; None where there is nothing."""
    name = EARLIER.get(data_name, data_name)
    return FIGURES.get(name, {}).get(row.removesuffix(TOKEN))


def beside(data_name: str, row_name: str, asked_by: str = "words") -> float | None:
    """The mIoU, 0 to 1, that a paper reports for a method on a data set; None where none does. `asked_by`:
    "words" or "tokens", ValueError for anything else."""
    _require_asked(asked_by)
    found = figure(data_name, row_name)
    value = None if found is None else getattr(found, asked_by)
    return None if value is None else value / 100


def classes_beside(data_name: str, row_name: str, asked_by: str = "words") -> dict[str, float]:
    """Class → the IoU, 0 to 1, that a paper reports for a method on a data set; {} where none does.
    ValueError as `beside`."""
    _require_asked(asked_by)
    found = figure(data_name, row_name)
    values = found.classes.get(asked_by, ()) if found else ()
    return {name: value / 100 for name, value in zip(VOC_CLASSES, values, strict=False)}


def table(
    data_name: str,
    scores: Mapping[str, float],
    classes: Mapping[str, Mapping[str, float]] | None = None,
    *,
    pictures: int | None = None,
) -> str:
    """Ours beside theirs, as text: a line for each row, then one for each class, then what to know of them.

    `scores`: row ("daam", "daam:token") → its mIoU, 0 to 1, with the background where `Figure.background`
    says so; a row of which no paper reports anything is shown without a figure beside it. `classes`: row →
    class → its IoU; NaN or left out where no picture shows the class. `pictures`: how many were scored.
    Shares are written with three decimals, as in `report`.
    """
    lines = [("method", "asked by", "here", "there", "difference")]
    for row, score in scores.items():
        theirs = beside(data_name, row, _asked(row))
        apart = "" if theirs is None or math.isnan(score) else f"{score - theirs:+.3f}"
        lines.append((row.removesuffix(TOKEN), _asked(row), _shown(score), _shown(theirs), apart))
    parts = [_aligned(lines)]
    theirs = {row: classes_beside(data_name, row, _asked(row)) for row in classes or {}}
    reported = [row for row, found in theirs.items() if found]
    if classes and reported:
        heads = [f"{row.removesuffix(TOKEN)}, {_asked(row)}" for row in reported]
        lines = [("class", *heads)]
        for name in VOC_CLASSES:
            pairs = ((classes[row].get(name), theirs[row][name]) for row in reported)
            lines.append((name, *(f"{_shown(ours) or '–':<5} / {_shown(their)}" for ours, their in pairs)))
        parts.append("IoU here / there\n" + _aligned(lines))
    notes = [note for note in _notes(data_name, scores, classes or {}, pictures) if note]
    return "\n\n".join(parts + (["\n".join(notes)] if notes else []))


def _notes(
    data_name: str,
    scores: Mapping[str, float],
    classes: Mapping[str, Mapping[str, float]],
    pictures: int | None,
) -> list[str]:
    """What one has to know to compare: other pictures, classes that are missing, another method."""
    expected = PICTURES.get(EARLIER.get(data_name, data_name))
    notes = []
    if None not in (pictures, expected) and pictures != expected:
        notes.append(f"{pictures} pictures here, {expected} there: these are not the same means.")
    for row, found in classes.items():
        absent = [name for name in VOC_CLASSES if _shown(found.get(name)) == ""]
        if absent and classes_beside(data_name, row, _asked(row)):
            known = len(VOC_CLASSES) - len(absent)
            notes.append(f"{row}: the mean of {known} classes here, without {', '.join(absent)}.")
    known = {row.removesuffix(TOKEN): figure(data_name, row) for row in scores}
    for row, found in known.items():
        if found:
            notes.append(f"{row} there: {found.source}{'; ' * bool(found.note)}{found.note}.")
    return notes


def _asked(row: str) -> str:
    return ASKED[row.endswith(TOKEN)]


def _require_asked(asked_by: str) -> None:
    if asked_by not in ASKED:
        raise ValueError(f"A class is asked for by {' or '.join(ASKED)}, not by '{asked_by}'.")


def _shown(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
