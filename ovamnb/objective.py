"""One annotated image, and how far a class vector's map is from its mask: the mathematics of token
optimisation.

The softmax over all tokens of a text gives the class the sigmoid of one difference,

    softmax(s_1, …, s_n, s_class)_class = σ(s_class − log Σ_j exp s_j),        s_j = scale · q·k_j,

and the background's term, Σ_j, does not depend on the class vector: it is computed once. With a start token
alone this is σ(scale · q·(k_class − k_start)), so that only the difference of both vectors counts. Summing
and resizing maps are linear, so a loss can be taken on the maps' own grid, against a mask averaged over each
cell. (Token optimisation: OVAM, CVPR 2024, arXiv 2403.14291.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import fitted
from .recipe import TokenRecipe
from .refine import stretched
from .select import Blocks, Grid, evenly
from .trace import Trace


class Goal:
    """One annotated image: its recorded queries, ready for fast maps, and the mask to reach.

    goal = Goal(trace, mask, background, TokenRecipe())     # background (token, dim)
    goal.loss(vector)                                       # class vector (dim,) → ()
    """

    def __init__(
        self,
        trace: Trace,
        mask: Tensor,
        background: Tensor,
        recipe: TokenRecipe,
        *,
        image: int = 0,
        queries: str | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        names, half, image = trace.select(blocks=blocks, queries=queries, image=image)
        steps = evenly(len(trace.steps), recipe.steps)
        self.recipe, self.maximum = recipe, 0
        self.by_grid: dict[Grid, list[tuple[Tensor, Tensor, Tensor]]] = {}
        for name in names:
            block, weight = trace.blocks[name], trace.key_weights[name]
            query = trace.queries[half][name][steps, image].float()  # (step, h·w, head·head_dim)
            if not query.isfinite().all():
                raise FloatingPointError(
                    f"The queries of {name} are not finite: either the image itself failed (is it black?), "
                    "or they exceed half precision, so record with dtype=torch.float32."
                )
            # Head before h·w, and the scale included: an evaluation is then one batched product.
            query = block.scale * query.unflatten(-1, (block.heads, -1)).transpose(1, 2).contiguous()
            weight = weight[:-1].float()  # no bias: keys of class and background share it
            others = scores(query, background.to(weight) @ weight).logsumexp(dim=-1)  # (step, head, h·w)
            self.by_grid.setdefault(block.grid, []).append((query, weight, others))
            self.maximum += len(steps) * block.heads
        self.device = query.device
        self.grid = max(self.by_grid, key=math.prod)
        mask = fitted(mask, trace.image_size, self.grid)
        self.size: Grid = self.grid if recipe.at == "map" else tuple(mask.shape)
        # On the maps' own grid each cell's target is the share of the mask in it.
        self.target = F.adaptive_avg_pool2d(mask.float()[None], self.size)[0].to(self.device)

    def class_map(self, vector: Tensor) -> Tensor:
        """Σ_l resize( Σ_h Σ_t σ(scale · q·W_K x − log Σ_j exp s_j) ): `vector` x (dim,) → (h, w), at most
        `maximum`.

        Maps of one grid are summed before they are resized, once for each grid.
        """
        total = torch.zeros(self.grid, device=self.device)
        for grid, parts in self.by_grid.items():
            flat = sum(
                (scores(query, (vector @ weight)[None]).squeeze(-1) - others).sigmoid().sum(dim=(0, 1))
                for query, weight, others in parts
            )
            total = total + stretched(flat.unflatten(0, grid), self.grid)
        return stretched(total, self.size)

    def loss(self, vector: Tensor) -> Tensor:
        """The recipe's loss of a class vector (dim,) → (); NaN where the map is not finite."""
        heat = self.class_map(vector)
        if not heat.isfinite().all():  # which PyTorch's cross-entropy would not take
            return heat.new_tensor(math.nan)
        pair = normalised(heat, self.maximum, self.recipe.normalise)
        return LOSSES[self.recipe.loss](pair, self.target)


def scores(query: Tensor, key: Tensor) -> Tensor:
    """q·k by heads: `query` (step, head, h·w, head_dim), `key` (token, head·head_dim) → (step, head, h·w,
    token)."""
    key = key.unflatten(-1, (query.shape[1], -1))  # (token, head, head_dim)
    return query @ key.permute(1, 2, 0)


def normalised(heat: Tensor, maximum: float, how: str) -> Tensor:
    """The maps of background and class, (2, h, w) in 0 to 1, from the class map (h, w) alone, since together
    they are `maximum` at every pixel.

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
    """Cross-entropy of softmax(`pair`) over background and class, as in OVAM's published code.

    The logits, `pair` (2, h, w), lie in 0 to 1, so that it never falls below log(1 + 1/e) = 0.313, however
    good the maps.
    """
    return F.cross_entropy(pair[None], torch.stack([1 - target, target])[None])


LOSSES = {"bce": binary_cross_entropy, "two-channel": two_channel_cross_entropy}
