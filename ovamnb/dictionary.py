"""Places ask back: which words of a whole dictionary get the attention of a place of the picture?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .plumbing.asked import RankedWords
from .plumbing.lexicon import Group, Vocabulary
from .select import Block, Grid

WORDS = 2048  # whose keys are made together
ROWS = (2**20, 2**24)  # numbers worked on at a time, on a CPU and on a GPU: rows × words × tokens of a word


def word_shares(
    query: Tensor, weights: Tensor, key_weight: Tensor, block: Block, vocabulary: Vocabulary, together: bool
) -> Tensor:
    """Σ over steps, heads and cells of weight · share, in one block: (place, word).

    `query` (step, cell, head·head_dim), `weights` (place, cell), `key_weight` (dim + 1, head·head_dim). With
    s the scores, softmax over all words and what their texts begin with, or over each word's own text:

        together   share_w = exp(s_w) / (Σ over the beginning of exp(s) + Σ over all words v of exp(s_v))
        alone      share_w = exp(s_w) / (Σ over the tokens of w's text of exp(s))

    A word of several sub-tokens gets their mean, as `maps[word]` does. What is the same in all texts is
    computed once. Works on a few words and rows at a time: no (step, cell, head, word) is ever whole.
    """
    rows = (block.scale * query.float()).unflatten(-1, (block.heads, -1))  # (step, cell, head, head_dim)
    rows = rows.permute(2, 1, 0, 3).flatten(1, 2)  # (head, cell·step, head_dim)
    weights = weights.to(rows).repeat_interleave(len(query), dim=1)  # (place, cell·step)
    total = rows.new_zeros(len(weights), len(vocabulary.words))

    def by_head(states: Tensor) -> Tensor:  # (token, dim) → (head, token, head_dim)
        key = states.to(rows) @ key_weight[:-1].float() + key_weight[-1].float()
        return key.unflatten(-1, (block.heads, -1)).transpose(0, 1)

    def pieces(group: Group, slots: int) -> Iterator[tuple[Tensor, slice, Tensor]]:
        """Words, rows, and their scores (head, row, slot, word)."""
        for numbers, own in zip(group.words.split(WORDS), group.own[:, :slots].split(WORDS), strict=True):
            key = by_head(own.transpose(0, 1).flatten(0, 1))  # (head, slot·word, head_dim)
            size = max(1, ROWS[rows.device.type != "cpu"] // key.shape[:2].numel())
            for start in range(0, rows.shape[1], size):
                part = slice(start, start + size)
                yield numbers.to(rows.device), part, (rows[:, part] @ key.mT).unflatten(-1, (slots, -1))

    def around(states: Tensor) -> Tensor:  # log Σ exp(s): (head, row), -inf of no tokens
        return (rows @ by_head(states).mT).logsumexp(dim=-1)

    if together:
        first = vocabulary.groups[0]
        rest = around(first.common[: first.before])
        for group in vocabulary.groups:
            for _, part, scores in pieces(group, group.inside):
                rest[:, part] = torch.logaddexp(rest[:, part], scores.flatten(-2).logsumexp(dim=-1))
    for group in vocabulary.groups:
        rest = rest if together else around(group.common)
        for numbers, part, scores in pieces(group, group.inside if together else group.own.shape[1]):
            other = rest[:, part, None, None]
            if together:
                shares = scores.sub_(other).exp_()
            elif scores.shape[-2] == 1:
                shares = scores.sub_(other).sigmoid_()
            else:
                other = other.expand_as(scores[..., :1, :])
                shares = torch.cat([scores, other], dim=-2).softmax(dim=-2)[..., : group.inside, :]
            total[:, numbers] += (weights[:, part] @ shares.mean(dim=-2)).sum(dim=0)
    return total


def shares_at(
    layers: Sequence[tuple[Tensor, Tensor, Block]],
    places: Sequence[Tensor],
    vocabulary: Vocabulary,
    together: bool = True,
) -> Tensor:
    """The mean share of each word in each of `places` (h, w) bool: (place, word), 0 to 1, on the CPU.

    `layers`: queries (step, h·w, head·head_dim), key weights and block of each layer. It is what
    `trace.maps(…).share`, resized to the place's (h, w), has there on average.
    """
    finest = max((block.grid for *_, block in layers), key=math.prod)
    total, count = torch.zeros(len(places), len(vocabulary.words)), 0
    for query, key_weight, block in layers:
        weights = torch.stack([weights_on(block.grid, finest, place).flatten() for place in places])
        cells = weights.any(dim=0).nonzero().flatten()  # for a pixel, four or a few more
        seen = query[:, cells.to(query.device)]
        total += word_shares(seen, weights[:, cells], key_weight, block, vocabulary, together).cpu()
        count += len(query) * block.heads
    return total / count


def weights_on(grid: Grid, finest: Grid, place: Tensor) -> Tensor:
    """What each cell of a block's grid adds to the mean over a place: (h, w), sum 1. The block's map is
    resized to the `finest` grid, as `combine` does it, and then to the size of `place` (h, w) bool."""
    cells = torch.zeros(1, 1, *grid, requires_grad=True)
    with torch.enable_grad():
        there = cells
        for size in (finest, tuple(place.shape)):
            there = F.interpolate(there, size=size, mode="bilinear", align_corners=False)
        return torch.autograd.grad(there[0, 0, place].mean(), cells)[0][0, 0]


def rank(shares: Tensor, means: Tensor | None, words: Sequence[str], count: int) -> RankedWords:
    """The words in order of their `shares` (word,) in a place. With `means` (word,), those of the whole
    picture, in order of share · log(share / mean): what each adds to the place's divergence from it."""
    score = shares if means is None else shares * (shares / means.clamp(min=1e-12)).clamp(min=1e-12).log()
    order = score.argsort(descending=True, stable=True)
    means = None if means is None else means[order]
    return RankedWords(tuple(words[i] for i in order.tolist()), shares[order], means, count)
