"""Chapter 10: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..plot.diagrams import questions
from .absent_words import STATISTICS, Answers, auc, threshold
from .exercises import Exercise, Open

TITLE = "Where it goes wrong"
PREDICTIONS = {
    "10.1": "the AUC of the peak: how often a word that is there has the higher peak",
    "10.2": "which statistic tells best whether a thing is there",
    "10.3": "what share of the attention goes to tokens that name nothing",
    "10.4": "in how many of four pictures a tree stands",
    "10.5": "on which object “red” and “blue” are denser",
    "10.6": "what a click on one of two cats attends to",
}
MARGIN = 0.03  # by which a statistic of 10.c must exceed the best simple one
Statistic = Callable[[int, Tensor, Tensor], float]


def diagram() -> Figure:
    """From a doubtful map to a verdict whose mistakes have been counted."""
    return questions(
        (
            ("a map that\nlooks right", "attention", "is the thing there at all?"),
            ("one number\nof the map", "plain", "peak? mean? peak / mean?\nthe statistic"),
            ("there / not there\nmany known cases", "image", "how well does it separate?\nAUC"),
            ("a threshold", "plain", "chosen on validation:\nat most 10 % false alarms"),
            ("a verdict", "result", "checked on test scenes:\nfound, false alarms"),
        )
    )


def _pairs(ties: float, sign: int = 1) -> Callable[[Tensor, Tensor], float]:
    def answer(present: Tensor, absent: Tensor) -> float:
        difference = sign * (present[:, None] - absent)
        return float((difference > 0).double().mean() + ties * (difference == 0).double().mean())

    return answer


def _accuracy(present: Tensor, absent: Tensor) -> float:
    between = (present.mean() + absent.mean()) / 2
    right = (present > between).sum() + (absent <= between).sum()
    return float(right / (len(present) + len(absent)))


def _in_order(present: Tensor, absent: Tensor) -> float:
    count = min(len(present), len(absent))
    return float((present[:count] > absent[:count]).double().mean())


def _values(generator: torch.Generator, here: int, absent: int, levels: int) -> tuple[Tensor, Tensor]:
    """Values on a few levels, so that some are equal; those of words that are there a little higher."""
    part = torch.randint(0, levels, (here + absent,), generator=generator).double() / levels
    return part[:here] + 1 / levels, part[here:]


AUC = Exercise(
    name="10.a",
    title="the AUC of a statistic",
    stars=1,
    cases=lambda generator: [
        _values(generator, 5, 9, 8),
        _values(generator, 7, 4, 5),
        _values(generator, 3, 11, 12),
    ],
    right=auc,
    ideas={
        "Two equal values are no hit for you. Such a pair says nothing, so it counts half.": _pairs(0.0),
        "Two equal values are a full hit for you, so a statistic that is always the same would get 1. Such a "
        "pair counts half.": _pairs(1.0),
        "The wrong way round: count the pairs in which the *present* word has the larger value.": _pairs(
            0.5, -1
        ),
        "That is the share of right verdicts at one threshold. The AUC needs no threshold: it compares every "
        "present value with every absent one.": _accuracy,
        "That compares two means, so it depends on the scale of the values. The AUC counts pairs.": (
            lambda present, absent: float(present.mean() - absent.mean())
        ),
        "You compared the first with the first and the second with the second. Every present value meets "
        "every absent one: n · m pairs.": _in_order,
        "You compared each present value with the mean of the absent ones only.": lambda present, absent: (
            float((present > absent.mean()).double().mean())
        ),
    },
    says="It depends on the order of the values alone, and ½ is chance.",
    otherwise="On the five numbers of section 1 it must give five sixths.",
)


def verdict_shares(
    known_absent: Tensor, present: Tensor, absent: Tensor, alarms: float
) -> tuple[float, float]:
    """The threshold chosen on `known_absent` (n,), then the shares of `present` (m,) and `absent` (k,) that
    exceed it: found, and false alarms."""
    return _shares(threshold(known_absent, alarms), present, absent)


def _shares(at: float, present: Tensor, absent: Tensor) -> tuple[float, float]:
    return float((present > at).double().mean()), float((absent > at).double().mean())


def _detector_cases(generator: torch.Generator) -> list[tuple]:
    def case(known: int, here: int, absent: int, alarms: float) -> tuple:
        values = torch.randint(0, 60, (known + here + absent,), generator=generator).double() / 60
        first, present, others = values.split([known, here, absent])
        first, present, others = first.clone(), present + 0.3, others + 0.1
        first[:2] = 1.05  # ties at the top
        present[0] = others[0] = threshold(first, alarms)
        present[1] = others[1] = first.max()
        return first, present, others, alarms

    return [case(41, 12, 50, 0.1), case(23, 9, 35, 0.2), case(30, 15, 40, 0.15)]


def _at_least(known: Tensor, present: Tensor, absent: Tensor, alarms: float) -> tuple[float, float]:
    at = threshold(known, alarms)
    return float((present >= at).double().mean()), float((absent >= at).double().mean())


def _lower_part(known: Tensor, present: Tensor, absent: Tensor, alarms: float) -> tuple[float, float]:
    return _shares(float(known.quantile(alarms)), present, absent)


DETECTOR = Exercise(
    name="10.b",
    title="a verdict from nothing",
    stars=2,
    cases=_detector_cases,
    right=verdict_shares,
    ideas={
        "You chose the threshold on the test values. Then the false alarms come out as wished, whatever it "
        "is worth. Choose it on the validation values.": lambda known, present, absent, alarms: _shares(
            threshold(absent, alarms), present, absent
        ),
        "You set the threshold so that most *present* words pass. The promise is about absent words: at "
        "most this share of them may exceed it.": lambda known, present, absent, alarms: _shares(
            float(present.quantile(alarms)), present, absent
        ),
        "The wrong end: nearly all absent words exceed it. Only a share `alarms` may.": _lower_part,
        "Your threshold is the largest absent value, so validation has no false alarms. It may be lower, "
        "since a share `alarms` is allowed.": lambda known, present, absent, alarms: _shares(
            float(known.max()), present, absent
        ),
        "A value that equals the threshold does not exceed it.": _at_least,
        "Your threshold lies at mean + 2 standard deviations. That fits a bell curve, and these values are "
        "none. Count.": lambda known, present, absent, alarms: _shares(
            float(known.mean() + 2 * known.std()), present, absent
        ),
        "The order is: first the share of present words that were found, then the false alarms.": (
            lambda *given: verdict_shares(*given)[::-1]
        ),
    },
    says="Chosen on some scenes, counted on others: that is a verdict with known mistakes.",
    otherwise="Sort the validation values. The threshold is the smallest of them that few enough exceed.",
    close=1e-6,
)


def judge_statistic(answer: Statistic, hidden: Answers) -> tuple[bool, str]:
    """Whether `answer(word, alone, together)` → a number separates words that are there from those that are
    not better than the best of STATISTICS, alone or together, on scenes that were not shown."""
    simple = max(
        auc(*hidden.split(rule(maps)))
        for maps in (hidden.alone, hidden.together)
        for rule in STATISTICS.values()
    )
    rows = []
    for alone, together in zip(hidden.alone, hidden.together, strict=True):
        row = [answer(word, alone.clone(), together.clone()) for word in range(len(alone))]
        if any(value is None or value is ... for value in row):
            raise NotImplementedError
        rows.append([float(value) for value in row])
    values = torch.tensor(rows, dtype=torch.float64)
    if not values.isfinite().all():
        return False, "Some of your values are not finite: do you divide by zero?"
    mine, goal = auc(*hidden.split(values)), simple + MARGIN
    told = f"AUC {mine:.2f} on scenes that you have not seen; the best simple statistic has {simple:.2f}"
    if mine >= goal:
        return True, f"Reached: {told}."
    if values.unique().numel() == 1:
        return False, f"Not yet: {told}. Yours is the same for every word, and that is chance."
    hint = (
        "Some words are bright in every picture: what is usual for *this* word?"
        if mine < simple
        else f"The goal is {goal:.2f}: what is usual for *this* word in pictures that do not show it?"
    )
    return False, f"Not yet: {told}. {hint}"


EXERCISES: tuple[Exercise | Open, ...] = (
    AUC,
    DETECTOR,
    Open("10.c", "a statistic that knows what is not there", judge_statistic),
)
