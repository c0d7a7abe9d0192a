"""Exercise 03.b: OVAM's map, end to end, from recorded queries to one map per token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import block_map, combine, keys
from ..select import Block
from .exercises import Exercise

Queries = Mapping[str, Tensor]


def whole_map(
    queries: Queries, key_weights: Mapping[str, Tensor], states: Tensor, blocks: Mapping[str, Block]
) -> Tensor:
    """`queries[name]` (step, h·w, head·dim), `key_weights[name]` (text dim + 1, head·dim), its last row the
    bias, `states` (token, text dim), `blocks[name]` grid, heads and scale → (token, h, w), on the finest
    grid."""
    return combine(
        [
            block_map(
                queries[name],
                keys(states, key_weights[name]),
                heads=block.heads,
                scale=block.scale,
                grid=block.grid,
            )
            for name, block in blocks.items()
        ]
    )


def _variant(
    shares: Callable[[Tensor], Tensor] = lambda scores: scores.softmax(dim=-1),
    fold: Callable[[Tensor, Block], Tensor] = lambda shares, block: _fold(shares.sum(dim=(0, 1)), block),
    grow: Callable[[Tensor, tuple[int, int]], Tensor] = lambda heat, grid: _grow(heat, grid),
) -> Callable[..., Tensor]:
    """The same map with one step of it replaced. `shares`: of scores (step, head, h·w, token); `fold`: from
    shares to (token, h, w); `grow`: to the finest grid."""

    def wrong(queries, key_weights, states, blocks) -> Tensor:
        finest, total = _finest(blocks), 0
        for name, block in blocks.items():
            scores = _scores(queries[name], key_weights[name], states, block)
            total = total + grow(fold(shares(scores), block), finest)
        return total

    return wrong


def _scores(query: Tensor, weight: Tensor, states: Tensor, block: Block) -> Tensor:
    key = states @ weight[:-1] + weight[-1]
    q = query.unflatten(-1, (block.heads, -1)).transpose(1, 2)  # (step, head, h·w, dim)
    k = key.unflatten(-1, (block.heads, -1)).transpose(0, 1)  # (head, token, dim)
    return block.scale * q @ k.mT


def _finest(blocks: Mapping[str, Block]) -> tuple[int, int]:
    return max((block.grid for block in blocks.values()), key=math.prod)


def _fold(heat: Tensor, block: Block) -> Tensor:
    return heat.T.unflatten(-1, block.grid)


def _grow(heat: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(heat[None], grid, mode="bilinear", align_corners=False)[0]


def _scores_resized(queries, key_weights, states, blocks) -> Tensor:
    finest, total = _finest(blocks), 0
    for name, block in blocks.items():
        scores = _scores(queries[name], key_weights[name], states, block)
        heat = scores.flatten(0, 1).mT.unflatten(-1, block.grid)  # (step·head, token, h, w)
        heat = F.interpolate(heat, finest, mode="bilinear", align_corners=False)
        total = total + heat.softmax(dim=1).sum(dim=0)
    return total


def _cases(generator: torch.Generator) -> list[tuple]:
    def case(steps, tokens, dim, layers):
        blocks = {name: Block(grid, heads, each**-0.5) for name, grid, heads, each in layers}
        sizes = {name: (math.prod(grid), heads * each) for name, grid, heads, each in layers}
        queries = {
            name: 1.5 * torch.randn(steps, places, width, generator=generator)
            for name, (places, width) in sizes.items()
        }
        weights = {
            name: 0.5 * torch.randn(dim + 1, width, generator=generator) for name, (_, width) in sizes.items()
        }
        return queries, weights, torch.randn(tokens, dim, generator=generator), blocks

    first = (("down.0", (3, 5), 2, 4), ("up.0", (6, 10), 3, 5), ("up.1", (3, 5), 1, 6))
    second = (("up.0", (4, 2), 3, 4), ("up.1", (8, 4), 2, 3))
    return [case(3, 4, 5, first), case(2, 6, 3, second)]


WHOLE_MAP = Exercise(
    name="03.b",
    title="OVAM's map from end to end",
    stars=2,
    cases=_cases,
    right=whole_map,
    ideas={
        "The softmax runs over the pixels. Tokens compete for a pixel, so it runs over the tokens.": _variant(
            shares=lambda scores: scores.softmax(dim=-2)
        ),
        "The heads were averaged before the softmax. Each head decides for itself, and the decisions are "
        "summed.": _variant(
            shares=lambda scores: scores.mean(dim=1, keepdim=True).softmax(dim=-1).expand_as(scores)
        ),
        "The steps were averaged before the softmax. Each step has its own softmax, and then they are "
        "summed.": _variant(
            shares=lambda scores: scores.mean(dim=0, keepdim=True).softmax(dim=-1).expand_as(scores)
        ),
        "The scores were resized, and the softmax came after that. It belongs to the layer's own grid: "
        "resize what comes out of it.": _scores_resized,
        "That is the mean over heads and steps. The formula has sums, so a block with more heads counts "
        "more.": _variant(fold=lambda shares, block: _fold(shares.mean(dim=(0, 1)), block)),
        "That is the mean over the blocks. The formula has their sum.": lambda *given: (
            whole_map(*given) / len(given[-1])
        ),
        "Only the last step is in it. The formula sums over all recorded steps.": (
            lambda queries, *rest: whole_map({name: query[-1:] for name, query in queries.items()}, *rest)
        ),
        "Places are counted row by row on a grid (h, w). You read them as (w, h) and turned the map, which "
        "mixes up the places.": _variant(
            fold=lambda shares, block: shares.sum(dim=(0, 1)).T.unflatten(-1, block.grid[::-1]).mT
        ),
        "The scale is missing: each block says by how much its scores are multiplied.": (
            lambda queries, key_weights, states, blocks: whole_map(
                queries,
                key_weights,
                states,
                {name: replace(block, scale=1.0) for name, block in blocks.items()},
            )
        ),
        "The maps were made larger by repeating cells. The formula resizes bilinearly (mode='bilinear').": (
            _variant(grow=lambda heat, grid: F.interpolate(heat[None], grid, mode="nearest")[0])
        ),
        "The corners of the grids were laid upon each other (align_corners=True). Cells have a size: leave "
        "it False.": _variant(
            grow=lambda heat, grid: F.interpolate(heat[None], grid, mode="bilinear", align_corners=True)[0]
        ),
    },
    says="This is the whole method: your function gives the map of any text. (Without the bias it would, "
    "too: that adds the same number to all tokens' scores at a place, and a softmax does not see it.)",
    otherwise="Print the shapes for one block: keys (token, head·dim), scores (step, head, h·w, token), map "
    "(token, h, w).",
)
