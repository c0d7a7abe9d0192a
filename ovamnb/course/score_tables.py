"""The stored results of the evaluations, as arrays that a chapter can count with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..evaluation.report import read_pictures, read_table

RESULTS = Path(__file__).resolve().parents[1] / "assets/results"
SETS = ("emoji-sim", "emoji-cap", "emoji-real", "emoji-unseen")
PAPER = "at the paper's threshold"


@cache
def scores(name: str) -> tuple[dict, ...]:
    """The rows of a set's table of scores."""
    return tuple(read_table(RESULTS / name / "scores.csv"))


def head_of(name: str) -> str:
    """What a set's table says of itself, with a line for each statement."""
    text = (RESULTS / name / "scores.csv").read_text("utf-8").splitlines()
    head = [line for line in text if line.startswith("#")]
    return "\n".join(part for line in head for part in line.replace("; ", ";\n#    ").split("\n"))


def find(name: str, method: str, by: str = "words") -> dict:
    """The row of a method on a set; "ovam, tuned" is the one whose settings were chosen from many."""
    start, _, tuned = method.partition(", ")

    def is_it(row: dict) -> bool:
        if row["asked by"] != by:
            return False
        return row["method"].split(" ")[0] == start and row["tried"] > 1 if tuned else row["method"] == method

    [row] = [row for row in scores(name) if is_it(row)]
    return row


@dataclass(frozen=True)
class Counts:
    """Pixels of each method, picture and class: `both` in truth and answer, `either` in at least one, each
    (method, picture, class). `methods` as (name, by words or tokens)."""

    methods: tuple[tuple[str, str], ...]
    pictures: tuple[str, ...]
    classes: tuple[str, ...]
    both: np.ndarray
    either: np.ndarray

    def of(self, method: str, by: str = "words") -> tuple[np.ndarray, np.ndarray]:
        """(picture, class) each: the counts of one method; "ovam, tuned" as for `find`."""
        start, _, tuned = method.partition(", ")
        for i, (name, how) in enumerate(self.methods):
            if how == by and (name == method or (tuned and " " in name and name.split(" ")[0] == start)):
                return self.both[i], self.either[i]
        raise KeyError(f"There is no method {method!r} by {by}: {', '.join(dict(self.methods))}.")


@cache
def counts(name: str) -> Counts:
    """The counts of every picture of a set, as they were stored."""
    rows = read_pictures(RESULTS / name / "pictures.csv")
    methods = sorted({(row["method"], row["asked by"]) for row in rows})
    pictures, classes = (sorted({row[key] for row in rows}) for key in ("picture", "class"))
    places = [{value: i for i, value in enumerate(values)} for values in (methods, pictures, classes)]
    both, either = np.zeros((2, len(methods), len(pictures), len(classes)))
    for row in rows:
        keys = ((row["method"], row["asked by"]), row["picture"], row["class"])
        place = tuple(where[key] for where, key in zip(places, keys, strict=True))
        both[place], either[place] = row["both"], row["either"]
    return Counts(tuple(methods), tuple(pictures), tuple(classes), both, either)


def miou(both: np.ndarray, either: np.ndarray) -> np.ndarray:
    """mIoU of a set: `both`, `either` (..., picture, class), summed over pictures, then the mean over those
    classes that came up."""
    both, either = both.sum(axis=-2), either.sum(axis=-2)
    there = either > 0
    return np.divide(both, either, out=np.zeros_like(both), where=there).sum(-1) / there.sum(-1)


def resampled(both: np.ndarray, either: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The bootstrap: mIoU (draw,) of one method, `both`, `either` (picture, class), for `draws` (draw,
    picture) of the pictures' numbers, drawn with repetition."""
    return np.array([miou(both[chosen], either[chosen]) for chosen in draws])


def flattery(found: Counts, sizes: tuple[int, ...], repeats: int = 300) -> list[tuple[int, float, float]]:
    """What is published, and what is true, if somebody chooses the best of all methods on some pictures and
    reports its score on the same: (pictures, score on them, score on all others), means over `repeats`."""
    random, rows = np.random.default_rng(0), []
    for size in sizes:
        pairs = []
        for _ in range(repeats):
            order = random.permutation(len(found.pictures))
            seen, others = order[:size], order[size:]
            on_seen = miou(found.both[:, seen], found.either[:, seen])
            best = int(on_seen.argmax())
            pairs.append((on_seen[best], miou(found.both[best][others], found.either[best][others])))
        rows.append((size, *np.mean(pairs, axis=0)))
    return rows


def by_objects(name: str, method: str) -> dict[int, float]:
    """mIoU by the number of objects in a scene, for a set whose pictures' names end in it."""
    found = counts(name)
    both, either = found.of(method)
    ends = np.array([int(picture.rsplit("-", 1)[1]) for picture in found.pictures])
    return {n: float(miou(both[ends == n], either[ends == n])) for n in sorted(set(ends.tolist()))}


def named_or_not(name: str, method: str) -> tuple[float, float]:
    """mIoU of classes that the prompt names, and of those that stand in it under another word."""
    row = find(name, method)
    return row["named in the prompt"], row["not named"]


def ablation(group: str, by: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Settings, mIoU and MB of one group of `ablations.csv`; those with another scale left out."""
    rows = read_table(RESULTS / "emoji-sim/ablations.csv")
    rows = [row for row in rows if row["group"] == group and row["asked by"] == by]
    rows = [row for row in rows if "maximum" not in str(row["setting"])]
    labels = [f"{row['setting']:g}" if isinstance(row["setting"], float) else row["setting"] for row in rows]
    return labels, np.array([row["mIoU"] for row in rows]), np.array([row["MB"] for row in rows])


def decisions(method: str) -> list[tuple[str, str, float, bool]]:
    """What choosing a method's settings tried, by words: (decision, its best setting, mIoU on validation,
    whether it was taken), the plain method first."""
    rows = read_table(RESULTS / "emoji-sim/tried.csv")
    own = [row for row in rows if row["method"] == method and row["asked by"] == "words"]
    found = [("as it is", own[0]["setting"], own[0]["mIoU"], True)]
    for decision in dict.fromkeys(row["decision"] for row in own[1:]):
        best = max((row for row in own if row["decision"] == decision), key=lambda row: row["mIoU"])
        found.append((decision, best["setting"].split(" ")[-1], best["mIoU"], best["chosen"] == "yes"))
    return found
