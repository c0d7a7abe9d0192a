"""One annotated image, and how far a token's map is from its mask: the mathematics of token optimisation.

With a start and a class token alone, the softmax over tokens is a sigmoid of one difference,

    softmax(q·k_start, q·k_class)_class = σ(q·(k_class − k_start)),

so that the map depends on one vector, x_class − x_start, and costs one product per block. The sum over blocks
is linear in their maps, and so is resizing them: a loss may live on the maps' own grid, against a mask whose
pixels are averaged over each cell. (Token optimisation: OVAM, CVPR 2024, arXiv 2403.14291.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .choose import Blocks, Grid
from .masks import fitted
from .recipe import TokenRecipe
from .refine import resize
from .trace import Trace


class Goal:
    """One annotated image: its recorded queries, ready for fast maps, and the mask to reach.

    goal = Goal(trace, mask, TokenRecipe())
    goal.loss(states)                           # states (2, dim), start and class → ()
    """

    def __init__(
        self,
        trace: Trace,
        mask: Tensor,
        recipe: TokenRecipe,
        *,
        image: int = 0,
        queries: str | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        names, half, row = trace.select(blocks=blocks, queries=queries, image=image)
        steps = evenly(len(trace.steps), recipe.steps)
        self.recipe, self.maximum = recipe, 0
        self.by_grid: dict[Grid, list[tuple[Tensor, Tensor, float]]] = {}
        for name in names:
            block, weight = trace.blocks[name], trace.key_weights[name]
            query = trace.queries[half][name][steps, row].float()  # (step, h·w, head·dim)
            query = query.unflatten(-1, (block.heads, -1)).transpose(1, 2).contiguous()  # head before h·w
            self.by_grid.setdefault(block.grid, []).append((query, weight[:-1].float(), block.scale))
            self.maximum += len(steps) * block.heads
        self.device = query.device
        grid = max(self.by_grid, key=math.prod)
        mask = fitted(mask, trace.image_size, grid)
        self.size: Grid = grid if recipe.at == "map" else tuple(mask.shape)
        # On the maps' own grid each cell's goal is the share of the mask in it.
        self.target = F.adaptive_avg_pool2d(mask.float()[None], self.size)[0].to(self.device)

    def class_map(self, difference: Tensor) -> Tensor:
        """Σ_l resize( Σ_h Σ_t σ(scale · q·W_K(x_class − x_start)) ): `difference` (dim,) → (h, w), at most
        `maximum`.

        Maps of one grid are summed before they are resized, once for each grid.
        """
        total = torch.zeros(self.size, device=self.device)
        for grid, parts in self.by_grid.items():
            flat = sum(sigmoid_map(query, difference @ weight, scale) for query, weight, scale in parts)
            total = total + resize(flat.unflatten(0, grid), self.size)
        return total

    def loss(self, states: Tensor) -> Tensor:
        """The recipe's loss of a pair of vectors: `states` (2, dim), start and class → ()."""
        heat = self.class_map(states[1] - states[0])
        return LOSSES[self.recipe.loss](normalised(heat, self.maximum, self.recipe.normalise), self.target)


def sigmoid_map(query: Tensor, key_difference: Tensor, scale: float) -> Tensor:
    """Σ over steps and heads of σ(scale · q·(k_class − k_start)): `query` (step, head, h·w, dim),
    `key_difference` (head·dim,) → (h·w,)."""
    key = key_difference.unflatten(0, (query.shape[1], -1)).unsqueeze(-1)  # (head, dim, 1)
    return (scale * (query @ key)).sigmoid().sum(dim=(0, 1)).squeeze(-1)


def normalised(heat: Tensor, maximum: float, how: str) -> Tensor:
    """The maps of start and class, (2, h, w) in 0 to 1, from the class map (h, w) alone, since together they
    are `maximum` at every pixel.

    "maximum" divides by that: the number of blocks × heads × steps. "minmax" scales from the smallest to the
    largest value of both.
    """
    pair = torch.stack([maximum - heat, heat])
    if how == "maximum":
        return pair / maximum
    low, high = pair.amin(), pair.amax()
    return (pair - low) / (high - low).clamp(min=1e-12)


def binary_cross_entropy(pair: Tensor, target: Tensor) -> Tensor:
    """Mean of −t·log p − (1 − t)·log(1 − p), p the class's map: `pair` (2, h, w) in 0…1, `target` (h, w)."""
    return F.binary_cross_entropy(pair[1].clamp(0, 1), target)


def two_channel_cross_entropy(pair: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of softmax(`pair`) over start and class, as the published code has it: `pair` (2, h, w).

    Its logits lie in 0 to 1, so that it never falls below log(1 + 1/e) = 0.313, however good the maps.
    """
    return F.cross_entropy(pair[None], torch.stack([1 - target, target])[None])


LOSSES = {"bce": binary_cross_entropy, "two-channel": two_channel_cross_entropy}


def evenly(count: int, wanted: int | None) -> list[int]:
    """`wanted` of `count` positions, evenly spaced, in the middle of their shares: evenly(10, 2) = [2, 7]."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]
