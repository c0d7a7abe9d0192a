"""The counts of one split, read back and added up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .metrics import mean_iou, overlap
from .store import read_counts


class Split:
    """The counts of one split: its settings and what was counted of each picture."""

    def __init__(self, folder: Path) -> None:
        path = folder / "settings.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no evaluation in '{folder}': run `python -m ovamnb.evaluation` first."
            )
        self.settings = json.loads(path.read_text("utf-8"))
        self.classes: tuple[str, ...] = tuple(self.settings["classes"])
        self.thresholds: tuple[float, ...] = tuple(self.settings["thresholds"])
        names = self.settings["pictures"]
        self.pictures = [read_counts(folder / "examples" / f"{name}.json") for name in names]
        self.missing = [name for name, picture in zip(names, self.pictures, strict=True) if not picture]

    def rows(self) -> list[str]:
        """The methods that were scored on every picture."""
        first, *others = [picture.get("tables", {}) for picture in self.pictures]
        return [row for row in first if all(row in other for other in others)]

    def table(self, picture: dict, row: str, k: int, *, unnamed: bool = True) -> Tensor:
        """The confusion (class + 1, class + 1) of a method on a picture, at threshold number k. `unnamed`:
        pixels of classes that nobody asked for count as background; else they do not count."""
        labels = torch.tensor(picture["labels"])
        table = torch.zeros(len(self.classes) + 1, len(self.classes) + 1, dtype=torch.int64)
        table[labels[:, None], labels] = torch.tensor(picture["tables"][row][k])
        others = picture.get("unnamed", [])
        if unnamed:
            table[0] += table[others].sum(dim=0)
        table[others] = 0
        return table

    def total(
        self, row: str, k: int, *, unnamed: bool = True, which: Callable[[dict], bool] = lambda picture: True
    ) -> Tensor:
        """The confusion of all pictures together, or of those that `which` takes."""
        classes = len(self.classes) + 1
        chosen = (picture for picture in self.pictures if which(picture))
        tables = (self.table(picture, row, k, unnamed=unnamed) for picture in chosen)
        return sum(tables, torch.zeros(classes, classes, dtype=torch.int64))

    def sweep(self, row: str) -> list[float]:
        """The mean IoU at each threshold."""
        return [mean_iou(self.total(row, k)) for k in range(len(self.thresholds))]

    def overlaps(self, row: str, k: int) -> tuple[Tensor, Tensor]:
        """Pixels in both truth and prediction, and in either: (picture, class) each, no background."""
        found = [overlap(self.table(picture, row, k)) for picture in self.pictures]
        both, either = (torch.stack(part)[:, 1:] for part in zip(*found, strict=True))
        return both, either

    def named(self) -> Tensor:
        """(picture, class) bool: whether the prompt names the class."""
        found = torch.zeros(len(self.pictures), len(self.classes) + 1, dtype=torch.bool)
        for flags, picture in zip(found, self.pictures, strict=True):
            flags[picture["included"]] = True
        return found[:, 1:]
