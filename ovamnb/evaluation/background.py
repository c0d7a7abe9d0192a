"""The background score: what every choice of it finds, and which one is taken.

    counts = swept(scores, [8, 15], truth, ignored=255)     # of one picture: classes 8 and 15 were asked for
    tally = Tally.of(paths, classes=20)                     # of all, from files of such counts
    tally.miou(0.5), tally.best()

DiffSegmenter's published evaluation sweeps the score from 0.30 to 0.74 on the truth that it reports on and
takes the best. Here that is called an oracle, and stands beside a score that was chosen on other pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from .metrics import overlap, ratio
from .store import read_counts

SWEPT = tuple(round(0.02 * k, 2) for k in range(5, 46))
"""0.10 to 0.90: the paper's range and some more on either side."""
KEYS = ("name", "mark", "at", "labels", "both", "either")


def label_map(scores: Tensor, asked: Sequence[int], background: float) -> Tensor:
    """Scores (class, h, w) of the labels `asked` → labels (h, w) int64: the highest's, or 0 where none
    exceeds the background score."""
    if not asked:
        return torch.zeros(scores.shape[1:], dtype=torch.int64)
    best, k = scores.max(dim=0)
    return torch.where(best > background, torch.tensor(asked)[k], 0)


def swept(scores: Tensor, asked: Sequence[int], truth: Tensor, ignored: int, also: float = 0.5) -> dict:
    """What IoU is made of at each of SWEPT and at one more background score, together `at`.

    `scores` (class, h, w) of the labels `asked`; `truth` (h, w) int64, whose pixels `ignored` do not count.
    `labels`: those that occur; `both`, `either` (background score, label): their pixels in both truth and
    prediction, and in either. (A confusion of hundreds of classes would hold few of them.)
    """
    labels = sorted({0, *asked, *truth[truth != ignored].unique().tolist()})
    place = torch.full((ignored + 1,), -1)  # -1 does not count
    place[labels] = torch.arange(len(labels))
    at, found = sorted({*SWEPT, also}), []
    for background in at:
        predicted = place[label_map(scores, asked, background)].flatten()
        table = multiclass_confusion_matrix(
            predicted, place[truth].flatten(), len(labels), ignore_index=-1, validate_args=False
        )
        found.append(overlap(table))
    both, either = (torch.stack(part).tolist() for part in zip(*found, strict=True))
    return {"at": at, "labels": labels, "both": both, "either": either}


@dataclass(frozen=True)
class Tally:
    """The counts of many pictures added up: background score → (both, either), each (class + 1,);
    `pictures` of them had a truth."""

    counts: dict[float, tuple[Tensor, Tensor]]
    pictures: int

    @classmethod
    def of(cls, paths: Iterable[Path], classes: int) -> Tally:
        """From files of counts; ValueError where one is missing."""
        counts: dict[float, tuple[Tensor, Tensor]] = {}
        pictures = 0
        for path in paths:
            if not (found := read_counts(path, KEYS)):
                raise ValueError(f"'{path}' is missing or damaged: the same command makes it again.")
            pictures += bool(found["labels"])
            for at, both, either in zip(found["at"], found["both"], found["either"], strict=True):
                sums = counts.setdefault(at, tuple(torch.zeros(2, classes + 1, dtype=torch.int64)))
                for total, part in zip(sums, (both, either), strict=True):
                    total[found["labels"]] += torch.tensor(part)
        return cls(counts, pictures)

    def miou(self, background: float) -> tuple[float, float]:
        """The mean IoU over the classes that occur: with the background among them, and without."""
        both, either = self.counts[background]
        return ratio(both, either), ratio(both[1:], either[1:])

    def best(self) -> float:
        """The one of SWEPT with the highest mean IoU, background included."""
        return max(SWEPT, key=lambda background: self.miou(background)[0])


def chosen(tally: Tally, given: float | None, usual: float) -> tuple[float, str]:
    """The background score and how it was chosen: as given, by the `tally` of held-out pictures, or, where
    none of them has a truth, the usual one."""
    if given is not None:
        return given, "given"
    if not tally.pictures:
        return usual, "the recipe's own, since no held-out picture has a truth"
    return tally.best(), f"chosen on {tally.pictures} held-out pictures"


def table(tally: Tally, background: float, how: str) -> str:
    """The mean IoU at the chosen background score, and at the oracle's."""
    if not tally.pictures:
        return "None of them has a truth, so there is no mIoU."
    lines = [
        f"mIoU of the {tally.pictures} that have a truth",
        f"{'background score':<18}{'background counted':>20}{'not counted':>13}",
    ]
    oracle = "oracle: the best on this very truth, the paper's way"
    for score, words in ((background, how), (tally.best(), oracle)):
        with_it, without = tally.miou(score)
        lines.append(f"{score:<18}{with_it:>20.3f}{without:>13.3f}  {words}")
    return "\n".join(lines)
