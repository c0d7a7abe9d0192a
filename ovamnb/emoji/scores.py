"""How well labels fit the scenes' exact masks: mIoU over a whole set; for segmentations, at every background
score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from ..recipe import SegmentRecipe
from ..segmentation import Filter, Segmentation, labels_of, segment, with_edges
from .scenes import Scene
from .sprites import CONCEPTS

BACKGROUNDS = tuple(round(0.05 * i, 2) for i in range(2, 17))


class ConceptIoU(MulticlassJaccardIndex):
    """torchmetrics' index over label maps of scenes: 0 is the background, k the concept `CONCEPTS[k - 1]`."""

    def __init__(self) -> None:
        super().__init__(len(CONCEPTS) + 1, average="none", ignore_index=255, validate_args=False)

    def miou(self) -> float:
        """Mean over the concepts that occur in truth or prediction; the background does not count."""
        occurs = (self.confmat.sum(0) + self.confmat.sum(1))[1:] > 0
        return float(self.compute()[1:][occurs].mean())


class ThresholdScores:
    """mIoU of maps cut at each of several thresholds, over a whole set of scenes. The best threshold is
    chosen on validation scenes; its score is reported on test scenes."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.ious = {threshold: ConceptIoU() for threshold in thresholds}

    def add(self, scores: Tensor, truth: Tensor, concept: str) -> None:
        """One object: its scores (h, w) in 0 to 1, its mask (h, w) bool."""
        label = CONCEPTS.index(concept) + 1
        for threshold, iou in self.ious.items():
            iou.update((scores > threshold).int() * label, truth.int() * label)

    def miou(self, threshold: float) -> float:
        """Mean over the concepts that occur."""
        return self.ious[threshold].miou()

    def best(self) -> float:
        """The threshold with the highest mIoU."""
        return max(self.ious, key=self.miou)


def cut(
    pipe, pictures: Sequence[Scene], recipe: SegmentRecipe, keep: Filter | None = None
) -> Iterator[tuple[Scene, Segmentation]]:
    """Every scene with its segmentation: into its own classes, or those that a filter finds."""
    for picture in pictures:
        given = CONCEPTS if keep else [thing.concept for thing in picture.objects]
        yield picture, segment(pipe, picture.image, given, recipe=recipe, keep=keep)


def sweep(
    results: Iterable[tuple[Scene, Segmentation]],
    sharpness: float | None = None,
    backgrounds: Sequence[float] = BACKGROUNDS,
) -> dict[float, float]:
    """Background score → mIoU; after a dense CRF if a sharpness is given."""
    ious = {background: ConceptIoU() for background in backgrounds}
    for picture, result in results:
        concept = torch.tensor([0, *(CONCEPTS.index(name) + 1 for name in result.classes)])
        truth = torch.from_numpy(picture.labels).long()
        for background, iou in ious.items():
            if sharpness is None or not result.classes:
                labels = labels_of(result.scores, background)
            else:
                labels = with_edges(result.scores, picture.image, background, sharpness).argmax(dim=0)
            iou.update(concept[labels], truth)
    return {background: iou.miou() for background, iou in ious.items()}
