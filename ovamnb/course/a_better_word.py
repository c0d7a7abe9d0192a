"""Chapter 05: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..plot.diagrams import arrow, box, drawing, note
from ..tokens import Token
from .exercises import Exercise, Open
from .token_lessons import Annotated, Ask, mean, scores

TITLE = "A better word"
PREDICTIONS: dict[str, str] = {
    "05.1": "two tokens, three pixels",
    "05.2": "how much attention the word's best cell gives to it",
    "05.3": "word or token, on six unseen scenes",
    "05.4": "what a hundred evaluations do on images that were not annotated",
    "05.5": "word or token, in scenes of two objects, after completion",
    "05.6": "what one completion leaves of the exact mask, made as coarse as the map",
}
MARGIN = 0.06
"""mean IoU by which exercise c has to beat both the word and the chapter's token."""


def diagram() -> Figure:
    """What is computed, and the only thing that moves: the class vector."""
    figure, ax = drawing(11.6, 3.7)
    word = box(ax, 0.2, 2.3, "the word\n“cat”", "text", width=1.5)
    vector = box(ax, 2.6, 2.3, "class vector\n(dim,)", "text", width=1.8)
    key = box(ax, 5.1, 2.3, "its key\n(frozen $W_K$)", width=1.7)
    share = box(ax, 7.5, 2.3, "map: share of\nattention (h, w)", "attention", width=2.0)
    loss = box(ax, 10.2, 2.3, "loss", "result", width=1.2)
    image = box(ax, 0.2, 0.4, "one image", "image", width=1.5)
    unet = box(ax, 2.6, 0.4, "UNet, frozen", width=1.8)
    query = box(ax, 5.1, 0.4, "queries,\nrecorded once", "attention", width=1.7)
    others = box(ax, 7.6, 0.4, "keys of the other\ntokens, fixed", width=1.8)
    mask = box(ax, 10.05, 0.4, "its mask,\ndrawn by you", "image", width=1.5)
    for start, end, text in (
        (word, vector, "first value"),
        (vector, key, ""),
        (key, share, ""),
        (share, loss, ""),
        (image, unet, ""),
        (unet, query, ""),
        (query, share, ""),
        (others, share, ""),
        (mask, loss, ""),
    ):
        arrow(ax, start, end, text)
    arrow(ax, (10.8, 3.1), (3.5, 3.1), dashed=True, curve=0.05)
    note(ax, 7.1, 3.67, "gradient: only the class vector is changed", ha="center")
    return figure


def share(query: Tensor, k_start: Tensor, k_class: Tensor) -> Tensor:
    """σ(q·(k_class − k_start)): `query` (h·w, dim), both keys (dim,) → the share of the class (h·w,)."""
    return torch.sigmoid(query @ (k_class - k_start))


def step(
    vector: Tensor, query: Tensor, weight: Tensor, others: Tensor, target: Tensor, rate: float
) -> tuple[float, Tensor]:
    """One step of gradient descent on the class vector; the answer of exercise b.

        loss, vector = step(vector, query, weight, others, target, rate=10)

    `vector` (dim,); `query` (head, h·w, head_dim), the scale included; `weight` (head, dim, head_dim);
    `others` (head, h·w, token): the scores of the other tokens; `target` (h·w,), 0 to 1. Returns the loss
    before the step, and the vector after it. (OVAM, CVPR 2024, arXiv 2403.14291.)
    """
    return _stepped(vector, query, weight, others, target, rate)


def _stepped(
    vector: Tensor,
    query: Tensor,
    weight: Tensor,
    others: Tensor,
    target: Tensor,
    rate: float,
    *,
    rival: Callable[[Tensor], Tensor] = lambda others: others.logsumexp(dim=-1),
    shares: Callable[[Tensor], Tensor] = lambda score: score.sigmoid().mean(dim=0),
    loss: Callable[[Tensor, Tensor], Tensor] = F.binary_cross_entropy,
    move: Callable[[Tensor, Tensor, float], Tensor] = lambda x, gradient, rate: x - rate * gradient,
) -> tuple[float, Tensor]:
    """`step`, with a place for each wrong idea."""
    with torch.enable_grad():
        x = vector.detach().clone().requires_grad_(True)
        score = (query @ (x @ weight)[..., None]).squeeze(-1)  # (head, h·w)
        value = loss(shares(score - rival(others)), target)
        value.backward()
    return value.item(), move(x.detach(), x.grad, rate)


def _mistaken(**parts: Callable) -> Callable[..., tuple[float, Tensor]]:
    return lambda *given: _stepped(*given, **parts)


def _share_cases(generator: torch.Generator) -> list[tuple]:
    return [
        (torch.randn(n, dim, generator=generator), *torch.randn(2, dim, generator=generator))
        for n, dim in ((7, 3), (5, 4))
    ]


def _step_cases(generator: torch.Generator) -> list[tuple]:
    cases = []
    for heads, cells, dim, head_dim, tokens, rate in ((2, 7, 5, 3, 4, 2.0), (3, 5, 4, 2, 3, 0.7)):
        sizes = ((dim,), (heads, cells, head_dim), (heads, dim, head_dim), (heads, cells, tokens))
        vector, query, weight, others = (torch.randn(size, generator=generator) for size in sizes)
        cases.append((vector, query, weight, others, torch.rand(cells, generator=generator), rate))
    return cases


def judge(
    answer: object, *, own: Annotated, exam: Sequence[Annotated], rival: Token, blocks: object
) -> tuple[bool, str]:
    """Whether a token beats the word and the `rival` by MARGIN on the `exam` scenes, each with the threshold
    that suits `own`, the annotated scene. `answer`: a `Token`, or a class vector (dim,), which then stands
    among the rival's other tokens."""
    if isinstance(answer, str):
        return False, "That is a word. Learn a vector: a Token, or a tensor (dim,)."
    if isinstance(answer, torch.Tensor) and answer.shape == rival.class_.shape:
        answer = torch.cat([rival.background, answer.detach().float().cpu()[None]])
    elif not isinstance(answer, Token):
        return False, f"Give a Token, or a class vector of the shape {tuple(rival.class_.shape)}."
    asks: dict[str, Ask] = {"word": f"a photograph of a {rival.word}", "rival": rival, "yours": answer}
    found = {name: mean(scores(ask, own, exam, blocks=blocks)) for name, ask in asks.items()}
    needed = max(found["word"], found["rival"]) + MARGIN
    says = (
        f"mean IoU on {len(exam)} scenes with a car: the word {found['word']:.2f}, "
        f"the chapter's token {found['rival']:.2f}, yours {found['yours']:.2f}."
    )
    if found["yours"] >= needed:
        return True, f"Well done. {says[0].upper()}{says[1:]}"
    if found["yours"] < found["word"]:
        advice = "Yours is worse than the word: plot its losses first, and its map on the annotated scene."
    else:
        advice = "What stands beside the cats that no annotation has shown it yet?"
    return False, f"{says[0].upper()}{says[1:]} It takes {needed:.2f}. {advice}"


EXERCISES: tuple[Exercise | Open, ...] = (
    Exercise(
        name="05.a",
        title="The share of one of two tokens, as a sigmoid",
        stars=1,
        cases=_share_cases,
        right=share,
        ideas={
            "That is the share of the start token: the difference is class − start.": lambda q, s, c: share(
                q, c, s
            ),
            "That is the difference of the scores. A share lies in 0 to 1: put it through the sigmoid.": (
                lambda q, s, c: q @ (c - s)
            ),
            "A sigmoid of the class's score alone does not know the start token, which takes a part.": (
                lambda q, s, c: torch.sigmoid(q @ c)
            ),
            "Two sigmoids, one subtracted from the other. First the difference, then one sigmoid.": (
                lambda q, s, c: torch.sigmoid(q @ c) - torch.sigmoid(q @ s)
            ),
            "Scores are divided there. The softmax divides their exponentials.": (
                lambda q, s, c: (q @ c) / (q @ c + q @ s)
            ),
        },
        says="Two tokens are one sigmoid of one difference: only k_class − k_start counts.",
        otherwise="For the three pixels above it gives .88, .27 and .50.",
    ),
    Exercise(
        name="05.b",
        title="The loss of a class vector, and one step downhill",
        stars=2,
        cases=_step_cases,
        right=step,
        ideas={
            "You summed the others' scores. A softmax sums their exponentials: log Σ exp.": _mistaken(
                rival=lambda others: others.sum(dim=-1)
            ),
            "That is the mean of the others' scores. Each takes a part: log Σ exp exceeds every one.": (
                _mistaken(rival=lambda others: others.mean(dim=-1))
            ),
            "Only the strongest of the others counts for you. The weaker ones take a part, too.": _mistaken(
                rival=lambda others: others.amax(dim=-1)
            ),
            "The log is missing: Σ exp is not a score yet.": _mistaken(
                rival=lambda others: others.exp().sum(dim=-1)
            ),
            "Your class competes with nothing: a sigmoid alone does not know the other tokens.": _mistaken(
                rival=lambda others: others[..., 0] * 0
            ),
            "It is turned round: the share of the others meets the mask.": _mistaken(
                shares=lambda score: (-score).sigmoid().mean(dim=0)
            ),
            "You averaged the heads' scores. Each has a softmax of its own: sigmoid first, then the mean.": (
                _mistaken(shares=lambda score: score.mean(dim=0).sigmoid())
            ),
            "You summed over the cells: then a larger picture has a larger loss. Take the mean.": _mistaken(
                loss=lambda p, t: F.binary_cross_entropy(p, t, reduction="sum")
            ),
            "The sigmoid is applied twice: the cross-entropy you called expects scores, and got shares.": (
                _mistaken(loss=F.binary_cross_entropy_with_logits)
            ),
            "Only the object counts in your loss: a map that is bright everywhere would win.": _mistaken(
                loss=lambda p, t: -(t * p.log()).mean()
            ),
            "That is the squared error. It is a loss as well, but here it is the cross-entropy.": _mistaken(
                loss=F.mse_loss
            ),
            "You went uphill: the gradient shows where the loss grows, so subtract it.": _mistaken(
                move=lambda x, gradient, rate: x + rate * gradient
            ),
            "That is the gradient. The step goes from the vector: vector − rate · gradient.": _mistaken(
                move=lambda x, gradient, rate: gradient
            ),
            "The rate is missing: vector − rate · gradient.": _mistaken(
                move=lambda x, gradient, rate: x - gradient
            ),
            "The vector has not moved.": _mistaken(move=lambda x, gradient, rate: x),
        },
        says="That is the whole method: run it again and again, and a token is learned.",
        otherwise="Print the shares first: one for each cell, 0 to 1. Return (loss, vector).",
    ),
    Open(name="05.c", title="A token that leaves the car alone", judge=judge),
)
