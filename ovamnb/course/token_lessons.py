"""Chapter 05's measurements: annotated scenes, and how well a word or a token finds the cat in others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..emoji.scenes import Scene, scene
from ..emoji.sprites import CONCEPTS
from ..emoji.words import HELD_OUT
from ..images import record_image
from ..optimize import optimize_token
from ..plumbing.english import with_article
from ..refine import binarize, resize
from ..select import Blocks
from ..text import TextEncoder
from ..tokens import Token
from ..trace import Trace

LEVELS = (50, 150, 300, 450)
"""Levels of noise, of 1000, at which a scene is shown to the UNet: the steps of its recording."""
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(2, 18))
FOLLOWED = (0, 2, 5, 8, 12, 18, 25, 35, 50, 70, 99)
"""Evaluations of the loss at which `journeys` measures."""
COMMON = "animal pet fur tail ear whiskers orange yellow wood grass sky object thing lion tiger fox"
Ask = str | Token | Tensor
"""A text with the word last, a token, or states (token, dim), the class last."""


@dataclass(frozen=True)
class Annotated:
    """A scene, what the model did at the sight of it, and the mask of one object, (h, w) bool."""

    picture: Scene
    trace: Trace
    mask: Tensor


def annotated_scene(
    pipe, seed: int, *, concept: str = "cat", beside: str | None = None, finest: int | None = None
) -> Annotated:
    """A scene of a `concept` (and another object `beside` it), shown to the UNet at four levels of noise.

        own = annotated_scene(pipe, 7, finest=settings.finest)
        own.trace.maps("a photograph of a cat")["cat"]

    `finest`: the longer side of the grid on which self-attention is kept, too. The mask is exact, since the
    scene was composed.
    """
    names = [concept] if beside is None else [concept, beside]
    picture = scene(seed, concepts=names, plain=True)
    kept = {} if finest is None else {"self_attention": (finest,)}
    trace = record_image(pipe, picture.image, picture.caption, timesteps=LEVELS, **kept)
    return Annotated(picture, trace, torch.from_numpy(picture.mask(concept)))


def iou(guess: Tensor, goal: Tensor) -> float:
    """Intersection over union of two masks (h, w) bool; 0 where both are empty."""
    return ((guess & goal).sum() / (guess | goal).sum().clamp(min=1)).item()


def mean(values: Sequence[float]) -> float:
    """The mean of some numbers."""
    return sum(values) / len(values)


def map_of(ask: Ask, seen: Annotated, blocks: Blocks | None = None) -> Tensor:
    """The map of a text's last word, a token, or states, on its own grid, (h, w)."""
    maps = seen.trace.maps(ask, blocks=blocks)
    return (maps[maps.words[-1]] if isinstance(ask, str) else maps.values[-1]).cpu()


def heat_of(ask: Ask, seen: Annotated, blocks: Blocks | None = None, after: Callable | None = None) -> Tensor:
    """`map_of`, as large as the picture, (h, w). `after(heat, trace)` works on it before it is resized."""
    heat = map_of(ask, seen, blocks)
    return resize(heat if after is None else after(heat, seen.trace).cpu(), seen.mask)


def best_threshold(heat: Tensor, goal: Tensor) -> float:
    """The threshold, relative to the map's maximum, whose mask fits `goal` (h, w) best."""
    return max(THRESHOLDS, key=lambda cut: iou(binarize(heat, cut), goal))


def at_best(
    chart: Callable[[Annotated], Tensor], scenes: Sequence[Annotated], after: Callable | None = None
) -> float:
    """Mean IoU of the maps chart(scene) (h, w), on any grid, each cut at the threshold that suits it best.

        at_best(lambda seen: map_of("a cat", seen), unseen)

    `after(heat, trace)` works on each map first.
    """
    found = []
    for seen in scenes:
        heat = chart(seen) if after is None else after(chart(seen), seen.trace).cpu()
        heat = resize(heat, seen.mask)
        found.append(iou(binarize(heat, best_threshold(heat, seen.mask)), seen.mask))
    return mean(found)


def masks(
    ask: Ask,
    own: Annotated,
    unseen: Sequence[Annotated],
    blocks: Blocks | None = None,
    after: Callable | None = None,
) -> list[Tensor]:
    """Masks (h, w) on unseen scenes, all with the threshold that suits the annotated one."""
    cut = best_threshold(heat_of(ask, own, blocks, after), own.mask)
    return [binarize(heat_of(ask, seen, blocks, after), cut) for seen in unseen]


def scores(
    ask: Ask,
    own: Annotated,
    unseen: Sequence[Annotated],
    blocks: Blocks | None = None,
    after: Callable | None = None,
) -> list[float]:
    """IoU on each unseen scene: see `masks`."""
    found = masks(ask, own, unseen, blocks, after)
    return [iou(guess, seen.mask) for guess, seen in zip(found, unseen, strict=True)]


def heads_of(trace: Trace, others: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor, Tensor]:
    """What the loss of a class vector needs; blocks of one grid, steps and heads all count as "heads".

        query, weight, others = heads_of(trace, states_of_the_others, blocks=32)

    `others` (token, dim) → queries, scale included (head, h·w, head_dim); key weights (head, dim, head_dim);
    the scores of the other tokens (head, h·w, token).
    """
    names, half, image = trace.select(blocks=blocks)
    queries, weights = [], []
    for name in names:
        block = trace.blocks[name]
        query = trace.queries[half][name][:, image].float().cpu()  # (step, h·w, head·head_dim)
        query = block.scale * query.unflatten(-1, (block.heads, -1)).transpose(1, 2)
        weight = trace.key_weights[name][:-1].float().cpu()  # no bias: all keys of a text share it
        weight = weight.unflatten(-1, (block.heads, -1)).transpose(0, 1)  # (head, dim, head_dim)
        queries.append(query.flatten(0, 1))
        weights.append(weight.repeat(len(query), 1, 1))
    query, weight = torch.cat(queries), torch.cat(weights)
    keys = others.float().cpu() @ weight  # (head, token, head_dim)
    return query, weight, query @ keys.transpose(-1, -2)


def misfit(token: Token, vector: Tensor, seen: Annotated, blocks: Blocks | None) -> float:
    """The cross-entropy of the mask and the map of a class `vector` (dim,) among the token's others, on the
    map's grid."""
    share = seen.trace.maps(torch.cat([token.background, vector[None]]), blocks=blocks).share.values[-1].cpu()
    target = F.adaptive_avg_pool2d(seen.mask[None].float(), share.shape)[0]
    return F.binary_cross_entropy(share.clamp(0, 1), target).item()


def journeys(
    scenes: Sequence[Annotated], blocks: Blocks | None, proximity: float, word: str = "cat"
) -> tuple[Tensor, list[Token]]:
    """Each scene in turn is annotated, the others are unseen: the misfit while a token is learned for a
    hundred evaluations, (scene, FOLLOWED, 2), on the annotated scene and the mean on the others; and the
    tokens at the end, one for each scene."""
    rows, tokens = [], []
    for own in scenes:
        track: list[tuple[float, Tensor]] = []
        token = optimize_token(
            own.trace,
            own.mask,
            init=word,
            blocks=blocks,
            evaluations=FOLLOWED[-1] + 1,
            proximity=proximity,
            watch=lambda i, vector, loss, track=track: track.append((loss, vector.cpu())),
        )
        row: list[tuple[float, float]] = []
        last, measured = None, (0.0, 0.0)
        for i in FOLLOWED:
            _, vector = min(track[: i + 1], key=lambda pair: pair[0])  # the best so far
            if vector is not last:
                others = [misfit(token, vector, seen, blocks) for seen in scenes if seen is not own]
                measured = (misfit(token, vector, own, blocks), mean(others))
            row.append(measured)
            last = vector
        rows.append(row)
        tokens.append(token)
    return torch.tensor(rows), tokens


def elsewhere(asks: Sequence[Ask], scenes: Sequence[Annotated], blocks: Blocks | None = None) -> float:
    """Mean IoU on unseen scenes, each scene in turn being the annotated one, with asks[i] learned from it."""
    found = []
    for ask, own in zip(asks, scenes, strict=True):
        found += scores(ask, own, [seen for seen in scenes if seen is not own], blocks)
    return mean(found)


def nearest_words(pipe, vector: Tensor, count: int = 6) -> list[tuple[str, float]]:
    """The words nearest to a `vector` (dim,), seen from the start token, by the cosine: of the bundled
    model's classes, the words it never saw, and some others. What all words share is taken off first."""
    encoder = TextEncoder.of(pipe)
    known = {}
    for word in sorted({*CONCEPTS, *HELD_OUT, *COMMON.split()}):
        try:
            text = encoder.encode(f"a photograph of {with_article(word)}")
        except ValueError:  # a word that this model does not know
            continue
        states = text.states.float().cpu()
        known[word] = states[text.find(word)[0]].mean(dim=0) - states[0]
    middle = torch.stack(list(known.values())).mean(dim=0)
    near = {
        word: torch.cosine_similarity(vector - middle, other - middle, dim=0).item()
        for word, other in known.items()
    }
    return sorted(near.items(), key=lambda pair: -pair[1])[:count]
