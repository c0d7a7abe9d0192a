"""Intersection over union per concept, counted over a whole set of scenes."""

from __future__ import annotations

from torchmetrics.classification import MulticlassJaccardIndex

from .sprites import CONCEPTS


class ConceptIoU(MulticlassJaccardIndex):
    """torchmetrics' index over label maps of scenes: 0 is the background, k the concept `CONCEPTS[k - 1]`."""

    def __init__(self) -> None:
        super().__init__(len(CONCEPTS) + 1, average="none", ignore_index=255, validate_args=False)

    def miou(self) -> float:
        """Mean over the concepts that came up, in truth or answer; the background does not count."""
        seen = (self.confmat.sum(0) + self.confmat.sum(1))[1:] > 0
        return float(self.compute()[1:][seen].mean())
