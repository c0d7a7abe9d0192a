"""Chapter 02: its predictions, its exercises, its drawing."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..plot.diagrams import arrow, box, cells, drawing, note
from .exercises import Exercise, Open
from .layer_sums import judge
from .listening import LISTENING

TITLE = "Where attention lives"
COLUMN = "#D55E00"  # Okabe-Ito
PREDICTIONS: dict[str, str] = {
    "02.1": "what each of three places pays to cat",
    "02.2": "which queries are the same",
    "02.3": "how much a word without a place gets",
    "02.4": "on which grid an object is brightest",
    "02.5": "when it is settled where the cat will be",
    "02.6": "how much of the attention on the background comes from the coarsest grid",
}


def diagram() -> Figure:
    """One attention layer: what meets what, over what the softmax runs, and where the hook sits."""
    figure, ax = drawing(11.4, 3.75, scale=0.8)
    image = box(ax, 0.1, 2.3, "image so far\nh·w places", "image", width=1.9)
    text = box(ax, 0.1, 0.4, "text\none state per token", "text", width=1.9)
    to_q = box(ax, 2.5, 2.3, "to_q", width=0.9)
    to_k = box(ax, 2.5, 0.4, "to_k", width=0.9)
    scores = box(ax, 4.1, 1.35, "Q Kᵀ / √d\nthen softmax", "attention", width=1.6)
    for start, end, curve in ((image, to_q, 0), (text, to_k, 0), (to_q, scores, -0.15), (to_k, scores, 0.15)):
        arrow(ax, start, end, curve=curve)
    note(ax, 3.7, 2.75, "Q: one query per place")
    note(ax, 3.7, 0.62, "K: one key per token")
    hook = box(ax, 3.6, 3.2, "hook: keeps a copy of Q", "result", width=2.3, height=0.4, size=8, dashed=True)
    arrow(ax, (3.42, 2.95), (hook[0], hook[1] + 0.2), dashed=True)

    rows = [
        [0.7, 0.1, 0.2],
        [0.6, 0.2, 0.2],
        [0.1, 0.1, 0.8],
        [0.2, 0.7, 0.1],
        [0.1, 0.8, 0.1],
        [0.1, 0.3, 0.6],
    ]
    places, words = [f"place {i}" for i in range(6)], ["cat", "car", "grass"]
    x, y, width, height = cells(ax, 6.85, 3.35, rows, rows=places, columns=words)
    arrow(ax, scores, (6.2, 1.75))
    ax.add_patch(Rectangle((x, y), width / 3, height, fill=False, edgecolor=COLUMN, linewidth=2.5))
    note(ax, x + width + 0.08, 3.32, "a row sums to 1:\nthe softmax runs\nover the tokens")
    note(ax, x + width / 2, y - 0.08, "A: place × token", ha="center")
    column = [row[0] for row in rows]
    left, bottom, *_ = cells(ax, 9.6, 2.0, [column[:3], column[3:]], cell=0.55)
    arrow(ax, (x + width + 0.05, 1.45), (left - 0.05, 1.45), "fold a column\ninto h × w")
    note(ax, left, bottom - 0.08, "the map of “cat”\non 2 × 3 places")
    return figure


def fold(attention: Tensor, token: int, grid: tuple[int, int]) -> Tensor:
    """`attention` (h·w, token) → the token's map (h, w)."""
    return attention[:, token].reshape(grid)


def layer_map(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """`query` (h·w, head·dim), `key` (token, head·dim) → (token, h·w), summed over the heads."""
    return _scores(query, key, heads, scale).softmax(dim=-1).sum(dim=0).T


def _scores(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """(head, h·w, token)"""
    q, k = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (query, key))
    return scale * q @ k.mT


def _interleaved(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    q, k = (x.unflatten(-1, (-1, heads)).permute(2, 0, 1) for x in (query, key))
    return (scale * q @ k.mT).softmax(dim=-1).sum(dim=0).T


def _fold_cases(generator: torch.Generator) -> list[tuple]:
    # As many tokens as places, so that a row has the length of a column.
    return [
        (torch.randn(h * w, h * w, generator=generator).softmax(dim=-1), token, (h, w))
        for (h, w), token in (((3, 5), 4), ((4, 2), 1))
    ]


def _layer_cases(generator: torch.Generator) -> list[tuple]:
    return [
        (
            2 * torch.randn(places, heads * dim, generator=generator),
            torch.randn(tokens, heads * dim, generator=generator),
            heads,
            dim**-0.5,
        )
        for places, tokens, heads, dim in ((15, 4, 3, 5), (6, 7, 2, 8))
    ]


EXERCISES: tuple[Exercise | Open, ...] = (
    Exercise(
        name="02.a",
        title="fold a column into a map",
        stars=1,
        cases=_fold_cases,
        right=fold,
        ideas={
            "That is a row: what one place pays to all tokens. A map is a column: what all places pay to one "
            "token.": lambda attention, token, grid: attention[token].reshape(grid),
            "The map lies on its side: the grid is (h, w), height first.": lambda attention, token, grid: (
                attention[:, token].reshape(grid).T
            ),
            "The shape is right and the places are mixed up: they are counted row by row, so fold into "
            "(h, w) at once and turn nothing.": lambda attention, token, grid: (
                attention[:, token].reshape(grid[::-1]).T
            ),
            "This folds into (w, h): the rows have the wrong length.": lambda attention, token, grid: (
                attention[:, token].reshape(grid[::-1])
            ),
            "That is the token before it: tokens are counted from 0, and the start token is number 0.": (
                lambda attention, token, grid: attention[:, token - 1].reshape(grid)
            ),
            "The map was stretched to a peak of 1: keep the shares, or two words cannot be compared.": (
                lambda attention, token, grid: (attention[:, token] / attention[:, token].max()).reshape(grid)
            ),
            "The map was divided by its sum: a column has no fixed sum, and a word that is nowhere should "
            "stay dark.": lambda attention, token, grid: (
                attention[:, token] / attention[:, token].sum()
            ).reshape(grid),
        },
        says="One number per place, on a grid that need not be square.",
        otherwise="Take column `token` of the matrix, then give its h·w numbers the shape (h, w).",
    ),
    LISTENING,
    Exercise(
        name="02.c",
        title="the map of one layer, head by head",
        stars=2,
        cases=_layer_cases,
        right=layer_map,
        ideas={
            "The softmax runs over places: words no longer compete, and a word that fits nowhere looks as "
            "strong as one that fits.": lambda *given: _scores(*given).softmax(dim=1).sum(dim=0).T,
            "The softmax runs over heads: each head should divide its own attention among the tokens.": (
                lambda *given: _scores(*given).softmax(dim=0).sum(dim=0).T
            ),
            "The heads were averaged before the softmax: heads that disagree cancel, although each of them "
            "was sure.": lambda *given: given[2] * _scores(*given).mean(dim=0).softmax(dim=-1).T,
            "The heads were added before the softmax: it sees one large score, and picks a single winner.": (
                lambda *given: _scores(*given).sum(dim=0).softmax(dim=-1).T
            ),
            "The scale is missing: without 1/√d a softmax over long vectors picks a single winner.": (
                lambda query, key, heads, scale: layer_map(query, key, heads, 1.0)
            ),
            "This is the mean over the heads, not their sum.": lambda *given: layer_map(*given) / given[2],
            "The heads are mixed up: `head·dim` means that each head's numbers stand together, so "
            "unflatten to (heads, dim).": _interleaved,
            "There is no softmax: scores may be negative, and places cannot be compared.": (
                lambda *given: _scores(*given).sum(dim=0).T
            ),
        },
        says="Softmax over tokens, in each head by itself, then the sum over heads.",
        otherwise="At each place the tokens should sum to the number of heads.",
    ),
    Open(name="02.d", title="a better sum than the sum", judge=judge),
)
