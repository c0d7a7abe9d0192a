"""Chapter 07: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..evaluation.metrics import confusion, mean_iou
from ..plot.diagrams import questions
from .exercises import Exercise, Open
from .score_tables import counts, miou

TITLE = "When is a number true?"
PREDICTIONS = {
    "07.1": "the IoU of cat and dog on sixteen pixels",
    "07.2": "two cats: summed over the data set, and averaged over the pictures",
    "07.3": "in how many of a thousand draws one method is ahead of two others",
    "07.4": "the score of a wrong word",
    "07.5": "how far four methods are apart when all are tuned alike",
    "07.6": "how many of the recorded steps are needed",
}
SHOWN, DRAWS = 12, 150  # pictures that an answer of 07.c gets to see, and how often on each data set
Pictures = Sequence[tuple[Tensor, Tensor]]  # labels and truth, (h, w) each


def diagram() -> Figure:
    """From pictures to a published number, with the question that each step raises."""
    return questions(
        (
            ("pictures\nwith a truth", "image", "which ones?\nwhose truth?"),
            ("method", "plain", "what may it know?\ntuned on what?"),
            ("score map\n→ mask", "attention", "who chose\nthe threshold?"),
            ("pixels in both,\nin either", "result", "255? background?"),
            ("one number", "result", "summed or averaged?\nhow sure?\nagainst what control?"),
        )
    )


def _labelled(generator: torch.Generator, h: int = 9, w: int = 11, wide: int = 4) -> tuple[Tensor, Tensor]:
    """Labels and truth (h, w) of two classes, with some pixels that nobody could name."""
    truth = torch.zeros(h, w, dtype=torch.int64)
    truth[1 : 2 + wide, 1:6], truth[6:9, 6 : 6 + wide] = 1, 2
    labels = torch.where(torch.rand(h, w, generator=generator) < 0.75, truth, 0)
    labels[0, : 2 + wide], labels[5, 7:9] = 1, 2
    truth[4] = 255
    return labels, truth


def iou_of(labels: Tensor, truth: Tensor, label: int) -> float:
    """IoU of one class: `labels`, `truth` (h, w); pixels whose truth is 255 do not count."""
    answer, there, counts_too = labels == label, truth == label, truth != 255
    return ((answer & there).sum() / ((answer | there) & counts_too).sum()).item()


def _ratio(rule: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, int], float]:
    """A score made of the masks of the answer, the truth, and what counts."""
    return lambda labels, truth, label: float(rule(labels == label, truth == label, truth != 255))


IOU = Exercise(
    name="07.a",
    title="the IoU of one class",
    stars=1,
    cases=lambda generator: [
        (*_labelled(generator), 1),
        (*_labelled(generator), 2),
        (*_labelled(generator, 12, 13, 5), 1),
    ],
    right=iou_of,
    ideas={
        "255 counts as background for you: a pixel that nobody could name cannot be wrong. Leave it out of "
        "both areas.": _ratio(lambda a, t, c: (a & t).sum() / (a | t).sum()),
        "That is the share of the truth that was found (recall). It does not see what was labelled too much: "
        "a mask over the whole picture would score 1.": _ratio(lambda a, t, c: (a & t).sum() / t.sum()),
        "That is the share of the answer that is right (precision). It does not see what was missed.": _ratio(
            lambda a, t, c: (a & t).sum() / (a & c).sum()
        ),
        "That is the share of all pixels that are right (accuracy): most are background, and easy.": _ratio(
            lambda a, t, c: ((a == t) & c).sum() / c.sum()
        ),
        "That is the Dice score, 2·both / (answer + truth): always at least as high as the IoU.": _ratio(
            lambda a, t, c: 2 * (a & t).sum() / ((a & c).sum() + t.sum())
        ),
    },
    says="Pixels in both, over pixels in either, and 255 in neither.",
    otherwise="On the sixteen pixels of section 1 both classes must get one half.",
)


def _tables(pictures: Pictures, classes: int) -> Tensor:
    return torch.stack([confusion(labels, truth, classes) for labels, truth in pictures])


def score_of(pictures: Pictures, classes: int) -> float:
    """The mIoU of a data set: pixels summed over all pictures, then each class's IoU, then their mean."""
    return mean_iou(_tables(pictures, classes).sum(dim=0))


def _by_class(pictures: Pictures, classes: int, kept: Callable[[Tensor, Tensor], bool]) -> list[float]:
    """Each class's IoU, summed over the pictures that `kept` keeps for it; 0 over 0 is no score."""
    found = []
    for c in range(1, classes + 1):
        own = [(labels, truth) for labels, truth in pictures if kept(labels == c, truth == c)]
        both = sum(int(((a == c) & (t == c)).sum()) for a, t in own)
        either = sum(int((((a == c) | (t == c)) & (t != 255)).sum()) for a, t in own)
        if either:
            found.append(both / either)
    return found


def _pictures(generator: torch.Generator) -> Pictures:
    some = [_labelled(generator, 9 + i, 12, 3 + i % 3) for i in range(4)]
    nothing_found = (torch.zeros_like(some[1][0]), some[1][1])
    return [*some, nothing_found]


def _per_picture(pictures: Pictures, classes: int) -> float:
    return float(np.nanmean([mean_iou(table) for table in _tables(pictures, classes)]))


def _filled(pictures: Pictures, classes: int) -> float:
    return score_of([(labels, torch.where(truth == 255, 0, truth)) for labels, truth in pictures], classes)


def _one_pot(pictures: Pictures, classes: int) -> float:
    total = _tables(pictures, classes).sum(dim=0)
    both = total.diagonal()[1:]
    return float(both.sum() / (total[1:].sum(1) + total[:, 1:].sum(0) - both).sum())


SCORE = Exercise(
    name="07.b",
    title="the mIoU of a data set",
    stars=2,
    cases=lambda generator: [(_pictures(generator), 3), (_pictures(generator)[1:], 2)],
    right=score_of,
    ideas={
        "That is a mean over pictures. Sum the pixels of all pictures first, then divide.": _per_picture,
        "Silence is rewarded: you left out the pictures in which a class was not found. There, all its "
        "pixels are missed, and they count.": lambda pictures, classes: float(
            np.mean(_by_class(pictures, classes, lambda answer, truth: bool(answer.any())))
        ),
        "False alarms go free: you left out the pictures that do not show a class, or counted only the "
        "truth's pixels.": lambda pictures, classes: float(
            np.mean(
                [
                    sum(int(((a == c) & (t == c)).sum()) for a, t in pictures) / total
                    for c in range(1, classes + 1)
                    if (total := sum(int((t == c).sum()) for _, t in pictures))
                ]
            )
        ),
        "The background is no class here: leave it out of the mean.": lambda pictures, classes: mean_iou(
            _tables(pictures, classes).sum(dim=0), background=True
        ),
        "255 counts as background for you: a pixel that nobody could name cannot be wrong.": _filled,
        "All classes went into one pot, where a large class outweighs a small one. Score each class, then "
        "take the mean.": _one_pot,
    },
    says="Sum the pixels over all pictures, score each class, take the mean of the classes that came up.",
    otherwise="Try `[(answer, truth)]` of section 1 with two classes: it must give one half.",
)


def judge_report(answer: Callable) -> tuple[bool, str]:
    """Whether a report can be believed: `answer(both, either)`, (method, picture, class) each, gives a
    method's number and a score to publish. Over many draws of twelve pictures of three data sets, the
    published score must be right on average, and the method good, on pictures that were not shown."""
    random, wrong, lost = np.random.default_rng(1), [], []
    for name in ("emoji-sim", "emoji-real", "emoji-unseen"):
        found = counts(name)
        for _ in range(DRAWS):
            order = random.permutation(len(found.pictures))
            seen, others = order[:SHOWN], order[SHOWN:]
            said = answer(found.both[:, seen].copy(), found.either[:, seen].copy())
            if said is None or said is ...:
                raise NotImplementedError
            method, published = said
            true = miou(found.both[:, others], found.either[:, others])
            if not np.isfinite(float(published)):
                return False, "A published score is not finite: a class that came up nowhere has no IoU."
            wrong.append(float(published) - true[int(method)])
            lost.append(true.max() - true[int(method)])
    bias, cost = float(np.mean(wrong)), float(np.mean(lost))
    spread = float(np.std(wrong))
    said = f"You publish {bias:+.3f} more than is true, on average ({spread:.3f} up and down)" + (
        f", and your method is {cost:.3f} behind the best."
    )
    if abs(bias) > 0.01:
        return False, f"{said} Are the pictures that the number comes from others than those you chose on?"
    if spread > 0.1:
        return False, f"{said} The number should follow the pictures: is it the same for every data set?"
    if cost > 0.03:
        return False, f"{said} Choose the method by its score, on as many pictures as you can spare."
    return True, f"{said} That can be published."


EXERCISES = (IOU, SCORE, Open("07.c", "a report that can be believed", judge_report))
