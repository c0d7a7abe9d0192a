"""Which layers' maps serve best? Measured on scenes of a cat and a car whose masks are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..emoji import Scene, scene
from ..emoji.recorded import NOISE_STEPS
from ..images import record_image
from ..notebook import sign
from ..plot.figures import new_figure, outline
from ..plumbing import checks
from ..refine import stretched
from ..select import Blocks
from ..trace import Trace

CONCEPTS = ("cat", "car")
SHOWN = (1, 2, 3, 4)
FRESH = (5, 6, 7, 8)
"""The seeds of the scenes that the chapter shows, and of those that its exercise keeps back."""
BETTER = 0.05  # than the best single grid: what exercise 02.d asks for

_kept: WeakKeyDictionary[nn.Module, dict[int, Shown]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Shown:
    """A scene with its exact masks, and the model's attention to it."""

    picture: Scene
    trace: Trace

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the caption that name an object."""
        return tuple(thing.word for thing in self.picture.objects)

    def mask(self, word: str) -> Tensor:
        """(h, w) bool: where the object of this word is."""
        [concept] = [thing.concept for thing in self.picture.objects if thing.word == word]
        return torch.from_numpy(self.picture.mask(concept))

    def heat(self, word: str, blocks: Blocks | None = None) -> Tensor:
        """(h, w), as large as the mask: the word's share of the attention in these blocks."""
        share = self.trace.maps(self.picture.caption, blocks=blocks).share[word]
        return stretched(share, self.picture.labels.shape)


class Places(NamedTuple):
    """A word's mean share on its own object, on the other one, and on the background."""

    own: float
    other: float
    background: float


def show_scenes(pipe, seeds: Sequence[int] = SHOWN) -> list[Shown]:
    """Scenes of a cat and a car, shown to the model once at each of four noise levels.

        pictures = show_scenes(pipe)
        places(pictures, 16).background

    A scene that this model was shown before is not recorded again.
    """
    kept = _kept.setdefault(pipe.unet, {})
    for seed in seeds:
        if seed not in kept:
            picture = scene(seed, concepts=CONCEPTS, plain=True)
            kept[seed] = Shown(
                picture, record_image(pipe, picture.image, picture.caption, timesteps=NOISE_STEPS)
            )
    return [kept[seed] for seed in seeds]


def draw_scenes(pictures: Sequence[Shown]) -> Figure:
    """The scenes side by side, with the masks of their objects."""
    figure = new_figure(1.7 * len(pictures), 1.9)
    for ax, shown in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
        masks = [shown.mask(word) for word in shown.words]
        outline(ax, shown.picture.image, torch.stack(masks).any(dim=0), alpha=0.3)
        ax.set(xticks=[], yticks=[])
    sign(figure, "rendered, not generated; tinted: the exact masks")
    return figure


def places(pictures: Sequence[Shown], blocks: Blocks | None = None) -> Places:
    """The mean over pictures and words of what these blocks pay where, 0 to 1."""
    found = []
    for shown in pictures:
        every = torch.stack([shown.mask(word) for word in shown.words]).any(dim=0)
        for word in shown.words:
            own, heat = shown.mask(word), shown.heat(word, blocks)
            found.append([heat[where].mean().item() for where in (own, every & ~own, ~every)])
    return Places(*np.mean(found, axis=0).tolist())


def border(pictures: Sequence[Shown], blocks: Blocks | None = None) -> float:
    """How much brighter a thin rim just inside the word's object is than one just outside, as a ratio.

    The rims are 1/32 of the picture wide. The outer one leaves out the other object. Means over pictures
    and words are taken before the ratio.
    """
    found = []
    for shown in pictures:
        every = torch.stack([shown.mask(word) for word in shown.words]).any(dim=0)
        width = max(1, round(max(every.shape) / 32))
        for word in shown.words:
            own, heat = shown.mask(word), shown.heat(word, blocks)
            inside, outside = own & _widened(~own, width), _widened(own, width) & ~every
            found.append([heat[where].mean().item() for where in (inside, outside)])
    inner, outer = np.mean(found, axis=0).tolist()
    return inner / outer


def _widened(mask: Tensor, by: int) -> Tensor:
    """(h, w) bool: the mask and all places at most `by` pixels away, diagonals included."""
    return nn.functional.max_pool2d(mask[None].float(), 2 * by + 1, stride=1, padding=by)[0].bool()


def half_peak_iou(heat: Tensor, mask: Tensor) -> float:
    """IoU of a mask (h, w) with the places at which the heat (h, w) reaches half of its peak."""
    found = heat > heat.max() / 2
    return float((found & mask).sum() / (found | mask).sum())


def fit(pictures: Sequence[Shown], weights: Mapping[Any, float] | Blocks | None = None) -> float:
    """The mean `half_peak_iou` over pictures and words; of some blocks, or of a weighted sum of several."""
    one = tuple(weights) if isinstance(weights, list) else weights
    parts = weights if isinstance(weights, Mapping) else {one: 1.0}
    return float(
        np.mean(
            [
                half_peak_iou(
                    sum(w * shown.heat(word, _blocks(key)) for key, w in parts.items()), shown.mask(word)
                )
                for shown in pictures
                for word in shown.words
            ]
        )
    )


def background_by_grid(pictures: Sequence[Shown]) -> dict[int, float]:
    """Longer side of a grid → its part, 0 to 1, of what the default sum puts on the background."""
    trace = pictures[0].trace
    parts: dict[int, float] = {}
    for name, block in trace.blocks.items():
        if not name.startswith("mid_block"):
            put = block.heads * places(pictures, name).background
            parts[max(block.grid)] = parts.get(max(block.grid), 0.0) + put
    return {side: put / sum(parts.values()) for side, put in sorted(parts.items())}


def grids(trace: Trace) -> list[int]:
    """The longer sides of the grids, coarsest first, without the mid block's own."""
    return sorted(
        {max(block.grid) for name, block in trace.blocks.items() if not name.startswith("mid_block")}
    )


def by_grid(trace: Trace) -> dict[int, list[str]]:
    """Longer side of a grid → the layers of the default sum that have it."""
    outside = {name: block for name, block in trace.blocks.items() if not name.startswith("mid_block")}
    return {
        side: [name for name, block in outside.items() if max(block.grid) == side] for side in grids(trace)
    }


def judge(weights: Any, pipe) -> tuple[bool, str]:
    """Does a weighted sum of layers serve better than any single grid, on pictures it was not chosen on?"""
    problem = _problem(weights)
    if problem:
        return False, problem
    seen, fresh = show_scenes(pipe, SHOWN), show_scenes(pipe, FRESH)
    try:
        mine, mine_fresh = fit(seen, weights), fit(fresh, weights)
    except (ValueError, TypeError) as error:
        return False, str(error)
    alone = {side: fit(fresh, tuple(names)) for side, names in by_grid(fresh[0].trace).items()}
    best = max(alone, key=alone.__getitem__)
    goal = alone[best] + BETTER
    text = (
        f"IoU {mine:.2f} on the four pictures you see, {mine_fresh:.2f} on four others. There the default "
        f"sum has {fit(fresh):.2f}, {best}×{best} alone {alone[best]:.2f}, and the goal is {goal:.2f}."
    )
    if mine_fresh >= goal:
        return True, f"{text} Your layers do different parts of the work."
    if mine >= goal:
        return (
            False,
            f"{text} It suits the pictures that it was chosen on: choose fewer numbers, and rounder.",
        )
    return False, f"{text} Join a layer that tells the objects apart with one that draws sharp borders."


def _problem(weights: Any) -> str | None:
    if not isinstance(weights, Mapping) or not weights:
        return 'Give a dictionary from blocks to weights, such as {"up_blocks.1": 1.0, 32: 0.5}.'
    for key, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not np.isfinite(weight):
            return f"The weight of {key!r} should be a number, not {checks.shown(weight)}."
    return None if any(weights.values()) else "All weights are 0: nothing is left to look at."


def _blocks(key: Any) -> Blocks | None:
    """A key of a dictionary as `Trace.maps` takes blocks: several names come as a tuple."""
    return list(key) if isinstance(key, tuple) else key
