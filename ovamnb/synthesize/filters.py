"""Which pictures are dropped from a synthetic set, and why.

As in the OVAM paper (arXiv 2403.14291): no empty masks; no mask that is much smaller or larger than the
others of its class; no picture that fits its class's name much worse than the others of the class. All limits
are percentiles of the class's own pictures, so that nothing has to be known about a class beforehand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """What is kept, as percentiles of a class: mask areas from `smallest` to `largest`, image–text scores
    from `least` on. Each in 0 to 100; the defaults are the paper's."""

    smallest: float = 5.0
    largest: float = 95.0
    least: float = 25.0

    def __post_init__(self) -> None:
        if not (0 <= self.smallest < self.largest <= 100 and 0 <= self.least < 100):
            raise ValueError(
                f"Percentiles lie in 0 to 100, the smallest area below the largest, not {self}: 0 100 and 0 "
                "keep everything."
            )


FILTERS = ("empty", "area", "score")


def reasons(records: Iterable[Mapping], limits: Limits | None = None) -> dict[str, list[str]]:
    """Picture → the FILTERS that drop it; [] where it is kept.

        reasons([{"name": "cat-00000", "classes": ["cat"], "areas": [0.2], "scores": [0.9]}, …])

    A picture of several classes has to pass for each. Areas are compared among masks that are not empty.
    """
    limits = limits or Limits()
    records = list(records)
    area, score = by_class(records, "areas"), by_class(records, "scores")
    # A class that has only empty masks needs no limits.
    full = {name: [value for value in found if value > 0] for name, found in area.items()}
    bounds = {
        name: (percentile(found, limits.smallest), percentile(found, limits.largest))
        for name, found in full.items()
        if found
    }
    least = {name: percentile(found, limits.least) for name, found in score.items()}
    found = {}
    for record in records:
        sized = list(zip(record["classes"], record["areas"], strict=True))
        scored = zip(record["classes"], record["scores"], strict=True)
        wrong = {
            "empty": any(value == 0 for _, value in sized),
            "area": any(value > 0 and not within(value, bounds[name]) for name, value in sized),
            "score": any(value < least[name] for name, value in scored),
        }
        found[record["name"]] = [name for name in FILTERS if wrong[name]]
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The value nearest to a percentile. Interpolated limits would lie between the values, and a class with
    two pictures would lose both."""
    return float(np.percentile(values, percent, method="nearest"))


def by_class(records: Iterable[Mapping], what: str) -> dict[str, list[float]]:
    """Class → the values of `what` in all its pictures."""
    values = defaultdict(list)
    for record in records:
        for name, value in zip(record["classes"], record[what], strict=True):
            values[name].append(value)
    return dict(values)


def within(value: float, bounds: Sequence[float]) -> bool:
    """Whether low ≤ value ≤ high."""
    return bool(bounds[0] <= value <= bounds[1])


def shares(found: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Filter → the share of pictures that it keeps by itself; "all" → that all keep together."""
    count = len(found)
    kept = {name: sum(name not in wrong for wrong in found.values()) / count for name in FILTERS}
    return kept | {"all": sum(not wrong for wrong in found.values()) / count}
