"""The scores of an evaluation, as a table and as CSV.

    report = Report(folder)                 # of `run`: folder/validation and folder/test
    print(report.text())
    report.save(folder)                     # scores.csv, classes.csv, pictures.csv, sweep.csv

Each method's threshold is the one that scores best on the validation pictures; its score on the test pictures
is the result. The columns "best threshold" and "at the best" give, for comparison, the best threshold on the
test pictures themselves (which needs the truth) and its score.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from ..data import DATA
from ..plumbing.files import whole
from .methods import SURE, TOKEN, paper_threshold, tried
from .metrics import interval, iou, mean_iou, ratio
from .split import Split

COLUMNS = (
    "method",
    "asked by",
    "tried",
    "threshold",
    "mIoU",
    "low",
    "high",
    "with background",
    "unnamed left out",
    "one class",
    "several classes",
    "named in the prompt",
    "not named",
    "mean per picture",
    "at the paper's threshold",
    "best threshold",
    "at the best",
    "at the best, with background",
)
"""tried: how many settings were compared on validation pictures, each at all thresholds; empty for the recipe
of a model's folder, which was tuned elsewhere. unnamed left out: without the pixels of classes that the
prompt does not name, where the methods are told its classes. one class, several classes: of pictures in which
so many were asked for. named in the prompt, not named: the asked classes whose word stands in the prompt, and
the others. at the paper's threshold: at the value that the OVAM paper gives for the method."""
SHOWN = (*COLUMNS[:7], "unnamed left out", "one class", "several classes", *COLUMNS[-4:-1])


class Report:
    """The scores of all methods. FileNotFoundError without an evaluation, ValueError if it is incomplete."""

    def __init__(self, folder: Path) -> None:
        self.validation, self.test = Split(folder / "validation"), Split(folder / "test")
        for name, split in (("validation", self.validation), ("test", self.test)):
            if split.missing:
                raise ValueError(
                    f"{len(split.missing)} of {len(split.pictures)} {name} pictures are not counted yet, "
                    f"'{split.missing[0]}' among them: run the same command again, and it goes on."
                )

    @cached_property
    def scores(self) -> list[dict[str, str | float]]:
        """For each method the values of COLUMNS; NaN for what does not apply."""
        return [self.score(row) for row in self.test.rows() if row in self.validation.rows()]

    def score(self, row: str) -> dict[str, str | float]:
        """The values of COLUMNS of one method."""
        chosen, swept = highest(self.validation.sweep(row)), self.test.sweep(row)
        total, told = self.test.total(row, chosen), self.test.settings["known"] == "classes"
        both, either = self.test.overlaps(row, chosen)
        low, high = interval(both, either)
        named = self.test.named()
        several = [
            mean_iou(self.test.total(row, chosen, which=lambda p, many=many: (len(p["asked"]) > 1) == many))
            for many in (False, True)
        ]
        apart = [
            ratio((both * part).sum(dim=0), (either * part).sum(dim=0))
            if partly_named(self.test)
            else math.nan
            for part in (named, ~named)
        ]
        own, best = paper_threshold(row, self.test.settings["like"][0]), highest(swept)
        per_picture = [ratio(b, e) for b, e in zip(both, either, strict=True) if e.any()]
        return dict(
            zip(
                COLUMNS,
                (
                    row.removesuffix(TOKEN),
                    "tokens" if row.endswith(TOKEN) else "words",
                    "" if (count := tried(row)) is None else str(count),
                    self.test.thresholds[chosen],
                    swept[chosen],
                    low,
                    high,
                    mean_iou(total, background=True),
                    mean_iou(self.test.total(row, chosen, unnamed=False)) if told else math.nan,
                    *several,
                    *apart,
                    sum(per_picture) / len(per_picture) if per_picture else math.nan,
                    math.nan if own is None else swept[self.test.thresholds.index(own)],
                    self.test.thresholds[best],
                    swept[best],
                    max(mean_iou(self.test.total(row, k), background=True) for k in range(len(swept))),
                ),
                strict=True,
            )
        )

    def header(self) -> list[str]:
        """The lines above every table: the pictures, whose labels these are, what the methods know."""
        settings = self.test.settings
        names = {cls.__name__: name for name, cls in DATA.items()}
        known = {
            "classes": "each picture's classes are given to the methods (oracle knowledge)",
            "filter": "each picture is asked for the classes that a filter finds in it",
            "nothing": "all classes of the set are asked of each picture",
        }[settings["known"]]
        return [
            f"{names.get(settings['data'], settings['data'])}: {len(self.test.pictures)} test pictures, "
            f"{len(self.test.classes)} classes",
            f"model: {settings['model'] or 'without a name'}, weights {settings['weights']}, "
            f"{settings['dtype']}, seed {settings['seed']}",
            f"truth: {settings['truth']}",
            f"known: {known}",
            f"thresholds: the best on {len(self.validation.pictures)} validation pictures; 'at the best': "
            "the best on the test pictures themselves (oracle knowledge)",
            "settings: 'tried' counts those that a row's were chosen from, by `ovamnb.evaluation.choose`; "
            "where it is empty, they are the recipe of the model's folder, tuned on other scenes",
            "order: the threshold; then, for '+crf' and 'crf=hard', a dense CRF in which each pixel of the "
            f"mask starts with probability {SURE}; for 'soft' the CRF comes first, then the threshold",
            "low, high: 95 % of 1000 bootstrap draws over the test pictures (BCa), at the same threshold",
            "versions: " + ", ".join(f"{name} {number}" for name, number in settings["versions"].items()),
        ]

    def text(self) -> str:
        """The table, as text."""
        lines = [*self.header(), ""]
        table = [SHOWN, *([show(score[name]) for name in SHOWN] for score in self.scores)]
        widths = [max(len(row[i]) for row in table) for i in range(len(SHOWN))]
        lines += [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Writes scores.csv; classes.csv, the IoU of each class; pictures.csv, the pixels in both truth and
        prediction, and in either, of each class in each test picture; sweep.csv, the mean IoU of both splits
        at every threshold. Their first lines, which begin with "#", are the header."""
        self.save_table(folder / "scores.csv", COLUMNS, ([show(s[c]) for c in COLUMNS] for s in self.scores))
        self.save_table(folder / "classes.csv", ("method", "asked by", "class", "IoU"), self.class_rows())
        rows = [s["method"] + (TOKEN if s["asked by"] == "tokens" else "") for s in self.scores]
        columns = ("picture", "class", "named", *rows)
        self.save_table(folder / "pictures.csv", columns, self.picture_rows())
        columns = ("method", "asked by", "split", "threshold", "mIoU")
        self.save_table(folder / "sweep.csv", columns, self.sweep_rows())

    def class_rows(self) -> Iterator[Sequence[str]]:
        for score in self.scores:
            row = score["method"] + (TOKEN if score["asked by"] == "tokens" else "")
            values = iou(self.test.total(row, self.test.thresholds.index(score["threshold"])))
            for name, value in zip(("background", *self.test.classes), values.tolist(), strict=True):
                yield score["method"], score["asked by"], name, show(value)

    def picture_rows(self) -> Iterator[Sequence[str]]:
        """A line for each class of each picture, in it "both either" of each method: short, for there are
        thousands. `read_pictures` reads it."""
        named, counts = self.test.named(), []
        for score in self.scores:
            row = score["method"] + (TOKEN if score["asked by"] == "tokens" else "")
            counts.append(self.test.overlaps(row, self.test.thresholds.index(score["threshold"])))
        for i, picture in enumerate(self.test.pictures):
            for k, name in enumerate(self.test.classes):
                cells = [f"{both[i, k]} {either[i, k]}" if either[i, k] else "" for both, either in counts]
                if any(cells):
                    yield picture["name"], name, str(int(named[i, k])), *cells

    def sweep_rows(self) -> Iterator[Sequence[str]]:
        for score in self.scores:
            row = score["method"] + (TOKEN if score["asked by"] == "tokens" else "")
            for name, split in (("validation", self.validation), ("test", self.test)):
                for threshold, value in zip(split.thresholds, split.sweep(row), strict=True):
                    yield score["method"], score["asked by"], name, show(threshold), show(value)

    def save_table(self, path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        write_table(path, self.header(), columns, rows)


def write_table(
    path: Path, header: Iterable[str], columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """A CSV for `read_table`, whole or not at all; the lines of the header come first, after a "#"."""
    with whole(path, make_folder=True) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {line}\n" for line in header)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: str | Path) -> list[dict[str, str | float]]:
    """The rows of a CSV that `Report.save` wrote; numbers as numbers, NaN for what does not apply."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [{name: number(value) for name, value in row.items()} for row in rows]


def read_pictures(path: str | Path) -> list[dict[str, str | float]]:
    """The rows of pictures.csv, one for each method, class and picture: method, asked by, picture, class, the
    pixels in both truth and answer, those in either, and whether the prompt names the class."""
    found = []
    for line in read_table(path):
        about = {name: line.pop(name) for name in ("picture", "class", "named")}
        for row, counts in line.items():
            if isinstance(counts, str):
                both, either = map(int, counts.split())
                method, asked = row.removesuffix(TOKEN), "tokens" if row.endswith(TOKEN) else "words"
                found.append({"method": method, "asked by": asked, **about, "both": both, "either": either})
    return found


def number(text: str) -> str | float:
    """A number where the text is one."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        return text


def show(value: str | float) -> str:
    """A cell of a table: three decimals for a number, nothing for NaN."""
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.3f}"


def highest(values: Sequence[float]) -> int:
    """The index of the highest value; NaN counts as the lowest."""
    return max(range(len(values)), key=lambda i: -math.inf if math.isnan(values[i]) else values[i])


def partly_named(split: Split) -> bool:
    """Whether prompts name some of the queried classes and not others, so that both can be scored apart."""
    unnamed = [set(picture["asked"]) - set(picture["included"]) for picture in split.pictures]
    return any(unnamed) and any(picture["included"] for picture in split.pictures)
