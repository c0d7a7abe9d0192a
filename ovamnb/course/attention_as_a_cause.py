"""Chapter 09: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..evidence import evidence
from ..images import as_rgb
from ..intervene import mask_iou
from ..plot.diagrams import arrow, box, drawing, note
from ..segmentation import segment
from .exercises import Exercise, Open
from .silencing_ideas import SILENCING

TITLE = "Attention as a cause"
PREDICTIONS = {
    "09.1": "what is drawn with another word's keys, values or both",
    "09.2": "which swap leaves the object where it was",
    "09.3": "what is drawn when a word has weight 0",
    "09.4": "how well the other object stays, with and without the first one's layout",
    "09.5": "which grid can be silenced with the least effect",
    "09.6": "in how many pictures all three are found after the push",
}


def diagram() -> Figure:
    """An attention layer, and which of its parts each intervention changes."""
    figure, ax = drawing(13.6, 3.9)
    picture = box(ax, 0.2, 2.55, "places\n(h·w)", "image", width=1.5)
    text = box(ax, 0.2, 0.75, "words\n(token)", "text", width=1.5)
    q = box(ax, 2.7, 2.55, "to_q", width=1.2)
    k = box(ax, 2.7, 1.5, "to_k", width=1.2)
    v = box(ax, 2.7, 0.15, "to_v", width=1.2)
    weights = box(ax, 5.6, 2.0, "A: which place\nreads which word", "attention", width=2.1)
    heads = box(ax, 8.5, 1.05, "A V\nhead by head", "attention", width=1.7)
    out = box(ax, 10.75, 1.05, "to_out", width=1.2)
    result = box(ax, 12.35, 1.05, "added to\nthe places", "image", width=1.2)
    for start, end in (
        (picture, q),
        (text, k),
        (text, v),
        (q, weights),
        (k, weights),
        (v, heads),
        (weights, heads),
        (heads, out),
        (out, result),
    ):
        arrow(ax, start, end)
    note(ax, 2.7, 3.75, "keep_layout: queries and keys of another prompt's picture", size=9.5)
    note(ax, 4.35, 1.62, "swap: another word's\nkeys or values", size=9.5)
    note(ax, 4.35, 0.3, "reweight: the values of a word × c", size=9.5)
    note(ax, 9.7, 2.5, "silence: zeros for a head,\nbefore to_out mixes them", size=9.5)
    note(ax, 9.7, 0.8, "excite, not in this layer:\npushes the latents", size=9.5)
    return figure


def reweighted(probs: Tensor, value: Tensor, token: int, weights: Sequence[float]) -> Tensor:
    """Attention (batch, place, token) and values (batch, token, dim) → what places get (batch, place, dim)
    when each picture's column of `token` counts that picture's weight."""
    probs = probs.clone()
    probs[:, :, token] *= torch.as_tensor(weights)[:, None]
    return probs @ value


def _weighing(change: Callable[[Tensor, Tensor, int, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda probs, value, token, weights: change(
        probs.clone(), value.clone(), token, torch.as_tensor(weights)
    )


def _renormalised(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    probs[:, :, token] *= weights[:, None]
    return probs / probs.sum(dim=-1, keepdim=True) @ value


def _first_alone(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    return reweighted(probs, value, token, [float(weights[0])] * len(weights))


def _in_logits(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    logits = probs.log()
    logits[:, :, token] *= weights[:, None]
    return logits.softmax(dim=-1) @ value


def _place(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    probs[:, token] *= weights[:, None]
    return probs @ value


def _channel(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    value[:, :, token] *= weights[:, None]
    return probs @ value


def _everything(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    return weights[:, None, None] * (probs @ value)


def _both(probs: Tensor, value: Tensor, token: int, weights: Tensor) -> Tensor:
    return reweighted(probs, value, token, (weights**2).tolist())


def _layers(generator: torch.Generator) -> list[tuple]:
    made = []
    for places, tokens, dim, token, weights in ((7, 4, 5, 2, [2.0, 0.5]), (6, 5, 6, 1, [0.0, 3.0, -1.0])):
        logits = torch.randn(len(weights), places, tokens, generator=generator)
        value = torch.randn(len(weights), tokens, dim, generator=generator)
        made.append((logits.softmax(dim=-1), value, token, weights))
    return made


REWEIGHT = Exercise(
    name="09.a",
    title="a word that counts more in one picture, less in another",
    stars=1,
    cases=_layers,
    right=reweighted,
    ideas={
        idea: _weighing(change)
        for idea, change in {
            "You made the rows sum to 1 again. Then the other words gain what this one loses. Here their "
            "columns stay as they are.": _renormalised,
            "Every picture got the first one's weight: each has its own.": _first_alone,
            "You changed the word before the softmax, and the softmax shares out anew. The weight acts "
            "after it.": _in_logits,
            "That is the row of a place, not the column of a word: `probs[:, :, token]`.": _place,
            "That is a channel of the values, not the word's row: `value[:, token]`.": _channel,
            "Everything that the places get is scaled. Only one word counts more.": _everything,
            "Column and values are both scaled, so the weight counts twice. One of them is enough.": _both,
        }.items()
    },
    says="Scaling the column of A and scaling the row of V are the same, so the package needs no more than a "
    "hook on `to_v`.",
    otherwise="Clone before you change: what you change in place stays changed. Then try the numbers above.",
)

KEPT, FIRST, OTHER = 0.85, "cat", "house"
LEAD = 0.1  # of the new word's evidence: it falls in [−1, 1], and about 0.3 parts the two words


def judge_edit(after, *, before, pipe, third: str = "car") -> tuple[bool, str]:
    """Whether `after` shows a house and no cat, by the model's own evidence, and the car of `before` where it
    was, by its segmentation."""
    try:
        before, after = as_rgb(before), as_rgb(after)
    except ValueError as problem:
        return False, f"That is no picture. {problem}"
    if before.size != after.size:
        return False, "The two pictures have different sizes."
    names = [FIRST, OTHER, third]
    texts = [f"a photograph of a {name}" for name in (FIRST, OTHER)]
    cat, house = evidence(pipe, after, texts).tolist()
    kept = mask_iou(*(segment(pipe, image, names).mask(third) for image in (before, after)))
    said = f"The IoU of the two {third}s is {kept:.2f}."
    if house < cat + LEAD:
        return False, f"The model finds a {FIRST} in it, or hardly a {OTHER}. {said}"
    if kept < KEPT:
        return False, f"There is a {OTHER}. {said} Reach {KEPT}: which steps decide where things are?"
    return True, f"There is a {OTHER}, and no {FIRST}. {said}"


EXERCISES = (REWEIGHT, SILENCING, Open("09.c", "another object, and the rest stays", judge_edit))
