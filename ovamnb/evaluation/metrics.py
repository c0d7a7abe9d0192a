"""Confusion matrices of pixels, and the scores that follow from them.

    table = confusion(labels, truth, len(classes))          # (class + 1, class + 1), rows are the truth
    mean_iou(table), iou(table)

Matrices of several pictures are added, and the data set's score is that of the sum: IoU = ΣI / ΣU over all
pictures, as in the papers. The mean of each picture's own IoU is another number, in which a small object
weighs as much as a large one. IoU itself is torchmetrics' (`MulticlassJaccardIndex`).
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ..data.on_disk import ignored_in


def confusion(labels: Tensor, truth: Tensor, classes: int) -> Tensor:
    """(class + 1, class + 1) int64: entry (i, j) counts the pixels of truth i that were labelled j; pixels
    whose truth is 255 (beyond 254 classes 65535) do not count. `labels`, `truth` (h, w); 0 is the background.

    Raises ValueError for sizes that differ and for labels out of range.
    """
    if labels.shape != truth.shape:
        raise ValueError(f"Labels of shape {tuple(labels.shape)} do not fit a truth of {tuple(truth.shape)}.")
    ignored = ignored_in(classes)
    kept = truth[truth != ignored]
    for what, values in (("label", labels), ("truth", kept)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) <= classes:
            raise ValueError(
                f"A {what} of {int(values.min())} to {int(values.max())} is out of range: 0 is the "
                f"background, 1 to {classes} are the classes."
            )
    return multiclass_confusion_matrix(
        labels.long().flatten(),
        truth.long().flatten(),
        classes + 1,
        ignore_index=ignored,
        validate_args=False,
    )


def iou(table: Tensor) -> Tensor:
    """IoU of each class (class + 1,), background first; NaN for a class in neither truth nor prediction."""
    metric = MulticlassJaccardIndex(
        len(table),
        average="none",
        ignore_index=ignored_in(len(table) - 1),
        validate_args=False,
        sync_on_compute=False,  # the sum is whole; under several processes it would wait for the others
    )
    metric.merge_state({"confmat": table})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was never updated: it was given the sum instead
        scores = metric.compute()
    return torch.where(table.sum(dim=0) + table.sum(dim=1) > 0, scores, torch.nan)


def mean_iou(table: Tensor, *, background: bool = False) -> float:
    """The mean IoU, 0 to 1, of the classes that occur in truth or prediction; with `background`, of the
    background too."""
    return float(iou(table)[0 if background else 1 :].nanmean())


def overlap(table: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in both truth and prediction, and in either, of each class: (class + 1,) each. IoU is their
    ratio."""
    both = table.diagonal()
    return both, table.sum(dim=0) + table.sum(dim=1) - both


def interval(
    both: Tensor, either: Tensor, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The confidence interval of the mean IoU: the bootstrap over pictures, corrected for its bias.

        low, high = interval(both, either)          # (picture, class): of `overlap`, without the background

    Each of `draws` resamples takes as many pictures as there are, with replacement. Quantiles of their scores
    lie too high, since the mean IoU is no mean over pictures: a class with few of them, and one that flooded
    a picture, drop out of some. BCa (Efron 1987; scipy's `bootstrap`) corrects for much of that. The interval
    says what other pictures of the same kind might give, nothing of another model or another
    training. Where pictures are too few or too much alike for a correction, it is that of the quantiles.
    """
    numbers = np.arange(len(both))
    both, either = both.double().numpy(), either.double().numpy()

    def score(chosen: np.ndarray, axis: int = -1) -> np.ndarray:
        """The mean IoU of each resample: picture numbers (..., picture) → (...)."""
        weights = np.apply_along_axis(np.bincount, -1, chosen, minlength=len(both)).astype(float)
        return np.nanmean((weights @ both) / (weights @ either), axis=-1)  # NaN: a class in no picture of it

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # that BCa is not defined, or a resample is without any class
        found = bootstrap(
            (numbers, ), score, n_resamples=draws, confidence_level=level, rng=np.random.default_rng(seed)
        ) if len(numbers) > 1 else None  # fmt: skip
        if found and not np.isnan(found.confidence_interval).any():
            return float(found.confidence_interval.low), float(found.confidence_interval.high)
        scores = found.bootstrap_distribution if found else score(numbers)
        low, high = np.nanquantile(scores, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def ratio(both: Tensor, either: Tensor) -> float:
    """Mean IoU of the classes that occur, from sums of `overlap` (class,); NaN where none does."""
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean())
