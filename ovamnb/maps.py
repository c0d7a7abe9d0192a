"""OVAM's mathematics: from queries and keys to one heat map per token. Pure functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .plumbing import checks
from .text import Text

FEW = 16
"""With fewer tokens than this, the softmax is faster where pixels, not tokens, come last in memory."""
PER_CORE, PER_GPU = 2**19, 2**23
"""How many numbers to work on at a time: about what a core's cache holds, and what keeps a GPU busy."""
ROWS_ON_CPU, ROWS_ON_GPU = 2**22, 2**25
"""The same for self-attention, whose products are larger."""


def attention(query: Tensor, key: Tensor, *, heads: int, scale: float, softmax: bool = True) -> Tensor:
    """softmax over tokens of `scale · Q Kᵀ`, head by head, in float32.

    `query` (..., h·w, head·head_dim), `key` (..., token, head·head_dim) → (..., head, h·w, token), which sums
    to 1 over tokens. `softmax=False` gives the scores themselves.
    """
    query = query.float().unflatten(-1, (heads, -1)).transpose(-3, -2)  # (..., head, h·w, head_dim)
    key = (scale * key.float()).unflatten(-1, (heads, -1)).transpose(-3, -2)  # (..., head, token, head_dim)
    if key.shape[-2] < FEW:  # pixels come last in memory, and the softmax runs over many of them at once
        scores = key @ query.mT
        return (scores.softmax(dim=-2) if softmax else scores).mT
    scores = query @ key.mT
    return scores.softmax(dim=-1) if softmax else scores


def keys(states: Tensor, weight: Tensor) -> Tensor:
    """K = W_K X: `states` (token, dim), `weight` (dim + 1, head·head_dim) → (token, head·head_dim).

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
    elements: int | None = None,
) -> Tensor:
    """Σ over steps and heads of one block's attention: `queries` (step, h·w, head·head_dim) → (token, h, w).

    Works on about `elements` numbers at a time, many small steps or a part of a large one, so that no second
    tensor of the queries' size is made, not even their float32 copy.
    """
    queries = queries if isinstance(queries, Tensor) else torch.stack(list(queries))
    on_cpu = queries.device.type == "cpu"
    elements = elements or (PER_CORE * torch.get_num_threads() if on_cpu else PER_GPU)
    pixels = max(1, elements // max(key.shape[-1], heads * len(key)))  # of a piece
    strips = []
    for strip in queries.split(pixels, dim=1):  # (step, pixel, head·head_dim)
        pieces = strip.split(max(1, pixels // strip.shape[1]))
        strips.append(sum(_piece_map(piece, key, heads, scale, softmax) for piece in pieces))
    return torch.cat(strips).T.unflatten(-1, grid)  # (h·w, token) → (token, h, w)


def _piece_map(queries: Tensor, key: Tensor, heads: int, scale: float, softmax: bool) -> Tensor:
    """Σ over steps and heads, with the steps taken for further pixels: (step, pixel, head·head_dim) →
    (pixel, token)."""
    per_head = attention(queries.flatten(0, 1), key, heads=heads, scale=scale, softmax=softmax)
    return _sum_first(_sum_first(per_head).unflatten(0, queries.shape[:2]))


def _sum_first(tensor: Tensor) -> Tensor:
    """Σ over the first of three dimensions, in memory order, for speed alone."""
    return tensor.sum(dim=0) if tensor.stride(-1) == 1 else tensor.mT.sum(dim=0).mT


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
    total: Tensor, query: Tensor, key: Tensor, *, heads: int, scale: float, elements: int | None = None
) -> None:
    """Add softmax(`scale · Q Kᵀ`), averaged over heads, to `total` (batch, h·w, h·w) in place.

    `query`, `key` (batch, h·w, head·head_dim). Works on at most `elements` numbers at a time over all
    heads, so that the (head, h·w, h·w) stack, half a gigabyte at 64×64, never exists.
    """
    elements = elements or (ROWS_ON_CPU if query.device.type == "cpu" else ROWS_ON_GPU)
    rows = max(1, elements // (heads * key.shape[-2]))
    for one_sum, one_query, one_key in zip(total, query, key, strict=True):
        for start in range(0, query.shape[-2], rows):
            chunk = one_query[start : start + rows]
            one_sum[start : start + rows] += attention(chunk, one_key, heads=heads, scale=scale).mean(dim=0)


@dataclass(frozen=True)
class AttentionMaps:
    """One heat map per token of an attribution text.

        maps = trace.maps("a kitten on grass")
        maps["kitten"]        # (h, w): the mean over the sub-tokens of a word or phrase, wherever it occurs
        maps[0]               # (h, w): one token, here the start token, which gets what no word attracts
        maps.values           # (token, h, w), with the names in maps.tokens

    Values are attention summed over heads, steps and blocks: with softmax never negative, and larger the
    more was summed. `share` divides by that number: the part, 0 to 1, of the attention that a token gets.
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
        """The words (for a list: its entries), each of which has a map, `maps[word]`."""
        return self.text.words

    @property
    def share(self) -> AttentionMaps:
        """The same maps as mean attention: at every pixel the tokens sum to 1."""
        return AttentionMaps(self.values / self.count, self.text, 1)

    def __getitem__(self, word: str | int) -> Tensor:
        if isinstance(word, str):
            return self.values[[i for place in self.text.find(word) for i in place]].mean(dim=0)
        try:
            if isinstance(word, bool):
                raise TypeError
            if isinstance(word, slice | list | tuple | Tensor | np.ndarray):
                return self.values[word]
            if not -len(self) <= index(word) < len(self):
                raise IndexError
            return self.values[index(word)]
        except IndexError:
            raise IndexError(
                f"There is no token {checks.shown(word)}: this text has {len(self)}, counted from 0 "
                f"({' '.join(self.tokens)})."
            ) from None
        except (TypeError, RuntimeError):
            raise TypeError(
                f"Ask for a word of the text or the number of a token, not for {checks.shown(word)}."
            ) from None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        h, w = self.values.shape[-2:]
        return f"AttentionMaps({len(self)} tokens on {h}×{w}: {' '.join(self.tokens)})"
