"""OVAM's mathematics: from queries and keys to one heat map per token. Pure functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .text import Text


def attention(query: Tensor, key: Tensor, *, heads: int, scale: float, softmax: bool = True) -> Tensor:
    """softmax over tokens of `scale · Q Kᵀ`, head by head, in float32.

    `query` (..., h·w, head·dim), `key` (..., token, head·dim) → (..., head, h·w, token). For each head and
    each pixel the tokens share 1. `softmax=False` gives the scores themselves.
    """
    query = query.float().unflatten(-1, (heads, -1)).transpose(-3, -2)  # (..., head, h·w, dim)
    key = key.float().unflatten(-1, (heads, -1)).transpose(-3, -2)  # (..., head, token, dim)
    scores = scale * query @ key.transpose(-2, -1)
    return scores.softmax(dim=-1) if softmax else scores


def keys(states: Tensor, weight: Tensor) -> Tensor:
    """K = W_K X: `states` (token, dim), `weight` (dim + 1, head·dim) → (token, head·dim).

    The last row of `weight` is the bias, which is zero in Stable Diffusion.
    """
    return states.float() @ weight[:-1].float() + weight[-1].float()


def block_map(
    queries: Iterable[Tensor],
    key: Tensor,
    *,
    heads: int,
    scale: float,
    grid: tuple[int, int],
    softmax: bool = True,
) -> Tensor:
    """Σ over steps and heads of one block's attention: `queries` (step, h·w, head·dim) → (token, h, w)."""
    # One step at a time: all of them at once would be (step, head, h·w, token).
    per_step = (
        attention(query, key, heads=heads, scale=scale, softmax=softmax).sum(dim=0) for query in queries
    )
    return sum(per_step).T.unflatten(-1, grid)  # (h·w, token) → (token, h, w)


def combine(block_maps: Sequence[Tensor]) -> Tensor:
    """Σ over blocks, each (token, h, w) resized bilinearly to the largest grid among them.

    Together with `block_map` this is the map of OVAM (Marcos-Manchón et al., CVPR 2024, arXiv 2403.14291):
    D(X') = Σ_l resize( Σ_h Σ_t softmax( scale · Q_{l,h,t} (W_K^{l,h} X')ᵀ ) ).
    """
    grid = max((tuple(block.shape[-2:]) for block in block_maps), key=math.prod)
    return sum(
        F.interpolate(block[None], size=grid, mode="bilinear", align_corners=False)[0] for block in block_maps
    )


def add_self_attention(
    total: Tensor, query: Tensor, key: Tensor, *, heads: int, scale: float, elements: int = 2**24
) -> None:
    """Add softmax(`scale · Q Kᵀ`), averaged over heads, to `total` (batch, h·w, h·w) in place.

    `query`, `key` (batch, h·w, head·dim). Works through rows of at most `elements` numbers over all
    heads, so that the (head, h·w, h·w) stack, half a gigabyte at 64×64, never exists.
    """
    rows = max(1, elements // (heads * key.shape[-2]))
    for row_sum, row_query, row_key in zip(total, query, key, strict=True):
        for start in range(0, query.shape[-2], rows):
            chunk = row_query[start : start + rows]
            row_sum[start : start + rows] += attention(chunk, row_key, heads=heads, scale=scale).mean(dim=0)


@dataclass(frozen=True)
class AttentionMaps:
    """One heat map per token of an attribution text.

        maps = trace.maps("a kitten on grass")
        maps["kitten"]        # (h, w): the mean over the sub-tokens of a word or phrase, wherever it occurs
        maps[0]               # (h, w): one token, here the start token, which takes what no word claims
        maps.values           # (token, h, w), with the names in maps.tokens

    Values are sums of attention over heads, steps and blocks: not negative with softmax, and larger the
    more was summed. `share` is free of that: the part, 0 to 1, of the attention that a token receives.
    """

    values: Tensor
    text: Text
    count: int  # heads × steps, summed over blocks

    @property
    def tokens(self) -> tuple[str, ...]:
        """The names of the tokens, start and end token included."""
        return self.text.tokens

    @property
    def words(self) -> tuple[str, ...]:
        """The words (for a list: its entries) that can be asked for."""
        return self.text.words

    @property
    def share(self) -> AttentionMaps:
        """The same maps as mean attention: at every pixel the tokens sum to 1."""
        return AttentionMaps(self.values / self.count, self.text, 1)

    def __getitem__(self, word: str | int) -> Tensor:
        if isinstance(word, str):
            return self.values[[i for place in self.text.find(word) for i in place]].mean(dim=0)
        return self.values[word]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        h, w = self.values.shape[-2:]
        return f"AttentionMaps({len(self)} tokens on {h}×{w}: {' '.join(self.tokens)})"
