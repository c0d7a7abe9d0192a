"""The results of a study, as a table and as CSV."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from ..evaluation.metrics import iou, mean_iou
from ..evaluation.report import show, write_table
from ..evaluation.store import read_counts
from .study import KEYS, Study, path_of

COLUMNS = ("source", "mix", "k", "seed", "pictures", "steps", "miou", "miou_background")


class StudyTable:
    """The scores of all runs of a study; ValueError where one is not there yet.

    report = StudyTable(study, folder)
    print(report.text())
    report.save(folder)
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self.found = {run: read_counts(path_of(folder, run), KEYS) for run in study.runs}
        if missing := [run for run, found in self.found.items() if not found]:
            raise ValueError(
                f"{len(missing)} of {len(self.found)} runs are not there yet, '{missing[0].name}' among "
                "them: run the same command again, and it goes on."
            )
        self.tables = {run: torch.tensor(found["table"]) for run, found in self.found.items()}

    def rows(self) -> list[tuple[str | int | float, ...]]:
        """For each run the values of COLUMNS. `pictures`: how many synthetic ones; scores in 0 to 1."""
        rows = []
        for run, table in self.tables.items():
            counts = self.found[run]["pictures"], self.study.recipe.steps
            scores = mean_iou(table), mean_iou(table, background=True)
            rows.append((run.source, run.mix, run.k, run.seed, *counts, *scores))
        return rows

    def class_rows(self) -> list[tuple[str | int | float, ...]]:
        """The IoU of each class in each run; NaN for one in neither truth nor prediction."""
        names = ("background", *self.study.pool.classes)
        return [
            (run.source, run.mix, run.k, run.seed, name, value)
            for run, table in self.tables.items()
            for name, value in zip(names, iou(table).tolist(), strict=True)
        ]

    def text(self) -> str:
        """Mean ± standard deviation over the seeds of the mIoU without background; a row for each source and
        mix, a column for each k."""
        scores: dict[tuple[str, str, int], list[float]] = {}
        for run, table in self.tables.items():
            scores.setdefault((run.source, run.mix, run.k), []).append(mean_iou(table))
        sizes = sorted({k for _, _, k in scores})
        cells = [("source", "mix", *(f"k = {k}" for k in sizes))]
        for source, mix in dict.fromkeys((source, mix) for source, mix, _ in scores):
            cells.append((source, mix, *(spread(scores.get((source, mix, k), [])) for k in sizes)))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*self.header(), "", *lines])

    def header(self) -> list[str]:
        """The lines above every table."""
        study = self.study
        counts = {run.source: found["pictures"] for run, found in self.found.items() if found["pictures"]}
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        h, w = study.recipe.size
        return [
            f"{len(study.test)} test pictures, {len(study.test.classes)} classes; truth: {study.test.truth}",
            f"{study.recipe.network} from random weights, {study.recipe.steps} steps of {study.recipe.batch} "
            f"pictures of {h}×{w}, whatever the mix; seeds {', '.join(map(str, study.seeds))}",
            f"synthetic pictures: {named or 'none'}",
            "mIoU of the classes, background left out, summed over all test pictures",
        ]

    def save(self, folder: Path) -> None:
        """Writes scores.csv, with COLUMNS, and classes.csv, the IoU of each class in each run. Their first
        lines, which begin with "#", are the header; `ovamnb.evaluation.report.read_table` reads them."""
        self.write(folder / "scores.csv", COLUMNS, self.rows())
        self.write(folder / "classes.csv", ("source", "mix", "k", "seed", "class", "IoU"), self.class_rows())

    def write(self, path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
        shown = ([show(v) if isinstance(v, float) else v for v in row] for row in rows)
        write_table(path, self.header(), columns, shown)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (of a sample, n - 1), where there are two values or more."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
