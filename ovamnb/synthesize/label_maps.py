"""Scores → a label map, with what is uncertain left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..crf import after_crf
from ..data.on_disk import IGNORED
from ..evaluation import methods
from ..evaluation.look import Look
from ..select import evenly


def with_doubt(look: Look) -> Tensor:
    """The mean of OVAM's completed map and what a dense CRF makes of it, (class, h, w) in 0 to 1.

    A dense CRF is overconfident: nearly all its probabilities are close to 0 or 1, right or wrong, and no
    threshold separates these. Where it contradicts the map, their mean lies in the middle.
    """
    scores = methods.METHODS["ovam+completion"](look)
    return (scores + after_crf(scores, look.image)) / 2


METHODS: dict[str, methods.Method] = {
    name: method for name, method in methods.METHODS.items() if getattr(method, "words", "own") == "own"
} | {"ovam+completion+crf-mean": with_doubt}
"""The methods that can make masks: those of the evaluation, but for its control, and one whose scores show
its uncertainty."""


def steps_for(pipe, rows: Sequence[str], steps: int, wanted: int) -> tuple[int, ...]:
    """The steps to record of a generation of so many: `wanted` ones, evenly spaced, and the middle one where
    one of the methods takes that."""
    found = {*evenly(steps, wanted)}
    if any(getattr(methods.parse(row, METHODS)[0], "steps", "all") == "middle" for row in rows):
        pipe.scheduler.set_timesteps(steps)  # some make more passes than there are steps
        found.add(len(pipe.scheduler.timesteps) // 2)
    return tuple(sorted(found))


def label_map(
    scores: Tensor,
    labels: Sequence[int],
    low: float,
    high: float,
    cut: Callable[[float], Tensor] | None = None,
) -> Tensor:
    """(h, w) uint8: the label of the highest score where that exceeds `high`; 0, the background, where none
    exceeds `low`; 255 between, which does not count.

        label_map(torch.tensor([[[0.1, 0.5, 0.9]]]), [3], low=0.2, high=0.8)     # [[0, 255, 3]]

    `scores` (class, h, w) of the classes with these `labels`. `cut`: how scores become labels at a threshold
    (`ovamnb.evaluation.methods.cut_of`), where a CRF comes after the cut. OVAM (arXiv 2403.14291) leaves out
    everything but its classes, so that its sets have no background; with low = high every pixel counts.

    Raises ValueError for thresholds out of order.
    """
    check_band(low, high)
    cut = cut or methods.plain(scores, None)
    sure, perhaps = cut(high), cut(low)
    named = torch.tensor([0, *labels], dtype=torch.uint8)[sure]
    return torch.where(sure > 0, named, torch.where(perhaps > 0, IGNORED, 0).to(torch.uint8))


def check_band(low: float, high: float) -> None:
    """ValueError for thresholds out of order."""
    if not 0 <= low <= high <= 1:
        raise ValueError(f"Thresholds are 0 ≤ low ≤ high ≤ 1, not {low} and {high}.")


def areas(labels: Tensor, own: Sequence[int]) -> list[float]:
    """The share of the picture (h, w) that each label of `own` takes, 0 to 1."""
    return [round(float((labels == label).float().mean()), 6) for label in own]
