"""Chapter 08: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..downstream.learn import score
from ..downstream.network import Segmenter
from ..evaluation.metrics import mean_iou
from ..plot.diagrams import arrow, box, drawing, note
from ..synthesize.filters import reasons
from ..synthesize.label_maps import label_map
from .exercises import Exercise, Open

TITLE = "Labels out of words"
PREDICTIONS = {
    "08.1": "the labels of five pixels",
    "08.2": "how many pixels are in doubt, in the map and after the CRF",
    "08.3": "how many of the 42 worst labels the filters throw out",
    "08.4": "how good the labels of the earlier, weaker model are",
    "08.5": "which training wins with 25 and with 400 real scenes",
    "08.6": "which of four suspects costs most",
}


def diagram() -> Figure:
    """From a class's name to a network that has learned it, and back to the question that counts."""
    figure, ax = drawing(12.6, 2.5)
    steps = (
        ("prompt\n“a photograph\nof a cat”", "text"),
        ("picture\n+ recording", "image"),
        ("scores\nmap and CRF", "attention"),
        ("label map\n0, class, 255", "result"),
        ("filters\narea, score", "plain"),
        ("a network\nlearns", "plain"),
    )
    boxes = [
        box(ax, 0.2 + 2.08 * i, 1.2, text, kind, width=1.6, height=1.0)
        for i, (text, kind) in enumerate(steps)
    ]
    for start, end in pairwise(boxes):
        arrow(ax, start, end)
    for i, question in (
        (1, "is it what\nwas asked for?"),
        (3, "is the mask\nright?"),
        (5, "does it see\nbetter?"),
    ):
        x, _, width, _ = boxes[i]
        note(ax, x + width / 2, 1.0, question, ha="center")
    return figure


def _two_thresholds(below: int = 0, between: int = 255, position: int | None = None) -> Callable[..., Tensor]:
    """A label map with other signs, or with a class's position, from 0 or 1, in place of its label."""

    def answer(scores: Tensor, labels: Sequence[int], low: float, high: float) -> Tensor:
        best, index = scores.max(dim=0)
        own = torch.tensor(labels)[index] if position is None else index + position
        return torch.where(best > high, own, torch.where(best > low, between, below))

    return answer


def _scores(generator: torch.Generator, h: int, w: int, classes: int) -> Tensor:
    scores = torch.rand(classes, h, w, generator=generator)
    scores[:, 0, :3] = torch.tensor([0.3, 0.1, 0.2])[:classes, None]  # exactly low: still background
    scores[:, 1] *= 0.2
    return scores


def _at_low_in_doubt(scores: Tensor, labels: Sequence[int], low: float, high: float) -> Tensor:
    right = label_map(scores, labels, low, high).long()
    return torch.where(scores.amax(dim=0) == low, 255, right)


LABEL_MAP = Exercise(
    name="08.a",
    title="a label map with two thresholds",
    stars=1,
    cases=lambda generator: [
        (_scores(generator, 4, 6, 3), [7, 2, 5], 0.3, 0.6),
        (_scores(generator, 5, 3, 2), [3, 1], 0.3, 0.7),
    ],
    right=lambda *given: label_map(*given).long(),
    ideas={
        "The position of a class is not its label: look it up in `labels`.": _two_thresholds(position=0),
        "The position plus one is not the label: look it up in `labels`.": _two_thresholds(position=1),
        "What lies between the thresholds is background in your map: the network is told that a doubtful cat "
        "is none. It should be 255.": _two_thresholds(between=0),
        "Everything below high does not count in your map, so nothing is background.": _two_thresholds(
            below=255
        ),
        "The thresholds are the wrong way round: 255 lies between them, 0 below low.": _two_thresholds(
            255, 0
        ),
        "A score that equals low does not exceed it: it is background.": _at_low_in_doubt,
    },
    says="Sure of a class, sure of the background, or in doubt.",
    otherwise="Try it on the five pixels of section 1.",
    close=0,
)

Records = Sequence[Mapping]


def kept_by(records: Records) -> list[bool]:
    """Whether each picture passes the three filters of the OVAM paper."""
    full = [
        {"name": str(i), "classes": [r["class"]], "areas": [r["area"]], "scores": [r["score"]]}
        for i, r in enumerate(records)
    ]
    why = reasons(full)
    return [not why[str(i)] for i in range(len(records))]


def _records(generator: torch.Generator, each: int) -> list[dict]:
    """Pictures of three classes whose areas and scores lie apart, some with an empty mask."""
    found = []
    for number, name in enumerate(("cat", "car", "house")):
        values = torch.rand(each, 2, generator=generator)
        for i, (area, score_) in enumerate(values.tolist()):
            area = 0.0 if i == number else 0.1 + 0.2 * number + 0.15 * area
            found.append({"class": name, "area": area, "score": 0.2 * number + 0.3 * score_})
    return found


def _filters(
    low: float | None = 5,
    high: float | None = 95,
    least: float | None = 25,
    *,
    own=True,
    empty=True,
    all_areas=False,
) -> Callable[[Records], list[bool]]:
    """Filters with other percentiles (None: not used), of all classes together, or without the one for empty
    masks."""

    def limit(values: list[float], percent: float) -> float:
        return float(np.percentile(values, percent, method="nearest"))

    def answer(records: Records) -> list[bool]:
        found = []
        for record in records:
            peers = [r for r in records if not own or r["class"] == record["class"]]
            areas = [r["area"] for r in peers if all_areas or r["area"] > 0]
            keeps = not empty or record["area"] > 0
            if record["area"] > 0 or all_areas:
                keeps &= low is None or record["area"] >= limit(areas, low)
                keeps &= high is None or record["area"] <= limit(areas, high)
            keeps &= least is None or record["score"] >= limit([r["score"] for r in peers], least)
            found.append(bool(keeps))
        return found

    return answer


FILTERS = Exercise(
    name="08.b",
    title="the paper's three filters",
    stars=2,
    cases=lambda generator: [(_records(generator, 24),), (_records(generator, 31),)],
    right=kept_by,
    ideas={
        "Your limits are percentiles of all pictures together. A house is larger than a cat: compare each "
        "picture with those of its own class.": _filters(own=False),
        "Empty masks pass: area 0 is no small object, it is none.": _filters(empty=False),
        "Empty masks shift your limits: take the percentiles of the areas that are not 0.": _filters(
            all_areas=True
        ),
        "Only small masks are thrown out. A mask that floods the picture is as wrong.": _filters(high=None),
        "Only large masks are thrown out. A mask of a few pixels is as wrong.": _filters(low=None),
        "The score is not used.": _filters(least=None),
        "That keeps only the best quarter by score. The paper throws out the worst quarter.": _filters(
            least=75
        ),
    },
    says="Each class is compared with itself, so nothing needs to be known about it beforehand.",
    otherwise='`np.percentile(values, 25, method="nearest")` gives a limit; a value that equals it is kept.',
)


def judge_network(answer: object, *, test: Sequence, baseline: float) -> tuple[bool, str]:
    """Whether a network is better on the test scenes than the chapter's own, by a clear margin."""
    if not isinstance(answer, Segmenter):
        return False, "Hand over a network, as `train` returns it."
    reached = mean_iou(score(answer, test))
    text = f"mIoU {reached:.2f} on the test scenes, against {baseline:.2f} of the chapter's network."
    if reached > baseline + MARGIN:
        return True, f"{text} The network sees better, and nobody outlined anything."
    return False, f"{text} Get {MARGIN} above it: section 7 says what costs most, and prompts cost nothing."


MARGIN = 0.05
EXERCISES = (LABEL_MAP, FILTERS, Open("08.c", "a better training set from words", judge_network))
