"""Chapter 04: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..maps import attention
from ..plot.diagrams import arrow, box, cells, drawing, note
from ..refine import complete
from .comparing import same
from .completing import Click, best_disc, click_iou
from .exercises import Exercise, Open

TITLE = "What belongs together"
PREDICTIONS: dict[str, str] = {
    "04.1": "the heat of the second and of the last place after one completion",
    "04.2": "how much more attention a place gives to its own object",
    "04.3": "how many rounds score best",
    "04.4": "which map is ahead after one completion",
    "04.5": "the leak after one completion",
    "04.6": "what the stretched row sums look like",
}


def diagram() -> Figure:
    """Cross-attention says what, self-attention what belongs together; completion is their product."""
    figure, ax = drawing(11.6, 4.3)
    names = ("head", "body", "tail", "grass")
    what = np.array([[0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.1, 0.5, 0.4], [0.1, 0.1, 0.8]])
    together = np.array([[4, 3, 2, 0.3], [3, 4, 3, 0.3], [2, 3, 4, 0.3], [0.3, 0.3, 0.5, 4]])
    words = box(ax, 0.2, 3.2, "words", "text", width=1.7, height=0.7)
    image = box(ax, 0.2, 1.7, "places\nof the image", "image", width=1.7, height=0.9)
    cells(ax, 3.5, 3.85, what, rows=names, columns=("cat", "on", "grass"), numbers=False, cell=0.4)
    cells(ax, 3.5, 1.75, together, rows=names, numbers=False, cell=0.4)
    for start, y in ((words, 3.3), (image, 3.0), (image, 0.95)):
        arrow(ax, start, (2.9, y))
    note(ax, 5.3, 3.75, "cross-attention\n(place × word)\nsays what is where")
    note(ax, 5.3, 1.65, "self-attention A\n(place × place)\nsays what belongs\ntogether")
    heat = cells(ax, 8.2, 3.85, what[:, :1], numbers=False, cell=0.4)
    note(ax, 8.75, 3.4, "heat H of one word,\na column of it")
    done = box(ax, 9.2, 0.6, "completion\nM = A · H", "result", width=1.9, height=1.0)
    arrow(ax, (7.2, 3.05), heat)
    arrow(ax, (7.2, 1.1), done)
    arrow(ax, (8.4, 2.2), (9.7, 1.6))
    return figure


WALK = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.6, 0.2], [0.0, 0.4, 0.6]])
HOT = torch.tensor([1.0, 0.0, 0.0])


def judge_walk(answer: Sequence[float]) -> tuple[bool, str]:
    """Two rounds on three places, by hand."""
    try:
        given = torch.as_tensor(answer, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError):
        return False, "Three numbers in a list, please: one for each place."
    if len(given) != len(HOT):
        return False, "Three numbers in a list, please: one for each place."
    once = WALK @ HOT
    known = {
        "Right. Each number is the chance that a walker from this place stands on the hot one after two "
        "steps.": WALK @ once,
        "That is one round. Do it once more, with these three numbers in the place of H.": once,
        "You squared the numbers of A. Two rounds apply A twice: A (A H).": WALK**2 @ HOT,
        "You went down the columns: a place takes from those that it attends to, and they stand in its "
        "row.": (WALK.T @ (WALK.T @ HOT)),
    }
    for says, numbers in known.items():
        if same(given, numbers.double(), 0.006):
            return says.startswith("Right"), says
    return False, "Not yet. Round one: 0.5·1 + 0.5·0 + 0·0 for the first place, and so on down the rows."


def _completed(affinity: Tensor, heat: Tensor, power: int) -> Tensor:
    flat = heat.flatten(1).unsqueeze(-1)  # (batch, h·w, 1)
    for _ in range(power):
        flat = affinity @ flat
    return flat.squeeze(-1).unflatten(-1, heat.shape[1:])


def _scores(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    return attention(query, key, heads=heads, scale=scale, softmax=False)  # (batch, head, h·w, h·w)


def _of_affinity(build: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A whole answer that makes the affinity of the scores (batch, head, h·w, h·w) in its own way."""
    return lambda query, key, heat, heads, scale, power: _completed(
        build(_scores(query, key, heads, scale)), heat, power
    )


def _right(query: Tensor, key: Tensor, heat: Tensor, heads: int, scale: float, power: int) -> Tensor:
    affinity = attention(query, key, heads=heads, scale=scale).mean(dim=1)
    return torch.stack([complete(one, rows, power=power) for one, rows in zip(heat, affinity, strict=True)])


def _squared(query: Tensor, key: Tensor, heat: Tensor, heads: int, scale: float, power: int) -> Tensor:
    affinity = _scores(query, key, heads, scale).softmax(-1).mean(1)
    return _completed(affinity**power, heat, 1)


def _received(query: Tensor, key: Tensor, heat: Tensor, heads: int, scale: float, power: int) -> Tensor:
    affinity = _scores(query, key, heads, scale).softmax(-1).mean(1)
    return heat * affinity.sum(dim=1).unflatten(-1, heat.shape[1:])


def _interleaved(query: Tensor, key: Tensor, heat: Tensor, heads: int, scale: float, power: int) -> Tensor:
    split = (each.unflatten(-1, (-1, heads)).movedim(-1, 1) for each in (query, key))
    query, key = split
    return _completed((scale * query @ key.mT).softmax(-1).mean(1), heat, power)


def _completion_cases(generator: torch.Generator) -> list[tuple]:
    def case(batch: int, h: int, w: int, heads: int, dim: int, power: int) -> tuple:
        query, key = (torch.randn(batch, h * w, heads * dim, generator=generator) * 2 for _ in range(2))
        return query, key, torch.rand(batch, h, w, generator=generator), heads, dim**-0.5, power

    return [case(2, 3, 5, 2, 3, 2), case(1, 5, 2, 3, 4, 3), case(3, 2, 3, 2, 5, 2)]


def judge_click(cut_out: Callable[..., Tensor], clicked: Sequence[Click]) -> tuple[bool, str]:
    """Masks of single places, against the exact ones and against the best disc."""
    mine, level = click_iou(cut_out, clicked), best_disc(clicked)
    goal = level + 0.1
    told = f"mean IoU {mine:.2f} on new scenes, where a disc without any attention reaches {level:.2f}"
    if mine >= goal:
        return True, f"Reached: {told}."
    hint = (
        "The row alone is too patchy: walk further, or ask which places have a row like this one."
        if mine < level
        else "Nearly: tune rounds and threshold."
    )
    return False, f"Not yet: {told}, and the goal is {goal:.2f}. {hint}"


EXERCISES: tuple[Exercise | Open, ...] = (
    Open("04.a", "A random walk, by hand", judge_walk, stars=1),
    Exercise(
        name="04.b",
        title="Completion from queries and keys",
        stars=2,
        cases=_completion_cases,
        right=_right,
        ideas={
            "`affinity ** power` raises each number by itself. Two rounds are a product of matrices: "
            "A (A H).": _squared,
            "You went down the columns: each place took from those that attend to it, and their weights do "
            "not sum to 1.": _of_affinity(lambda scores: scores.softmax(-1).mean(1).mT),
            "The softmax runs over the wrong axis: what one place gives to all places should sum to 1.": (
                _of_affinity(lambda scores: scores.softmax(-2).mean(1))
            ),
            "That is one round: repeat it `power` times.": lambda query, key, heat, heads, scale, power: (
                _right(query, key, heat, heads, scale, 1)
            ),
            "The heads were averaged before the softmax. Each head has a softmax of its own, and then comes "
            "the mean.": (_of_affinity(lambda scores: scores.mean(1).softmax(-1))),
            "The heads were summed, so that heat grows with each round. Take their mean: rows sum to 1.": (
                _of_affinity(lambda scores: scores.softmax(-1).sum(1))
            ),
            "The scale is missing: scores are scale · Q Kᵀ.": lambda query, key, heat, heads, scale, power: (
                _right(query, key, heat, heads, 1.0, power)
            ),
            "The heads were split the wrong way: the last axis is head·dim, so "
            "`unflatten(-1, (heads, -1))`.": _interleaved,
            "That multiplies by the attention that a place receives. Completion takes a mean over other "
            "places.": _received,
            "The values are right, but not folded back: the result has the shape (batch, h, w).": (
                lambda *given: _right(*given).flatten(1)
            ),
        },
        says="Each round, every place took the mean heat of the places it attends to, weighted by attention.",
        otherwise="Try power = 1 and one head first, on the four places of section 1.",
    ),
    Open("04.c", "Cut an object out by one click", judge_click),
)
