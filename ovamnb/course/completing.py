"""Chapter 04's measurements: maps of rendered scenes, completed and weighed, held against exact masks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..emoji.scenes import Scene, scene
from ..emoji.sprites import CONCEPTS
from ..emoji.streams import stream
from ..images import record_image
from ..plumbing.english import with_article
from ..refine import binarize, complete, grid_like, minmax, resize, weigh
from ..select import Blocks
from ..trace import Trace

ROUNDS = (0, 1, 2, 4, 16)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6)
Kind = Hashable  # what a map was made of, such as ("all blocks", 1): blocks or text, and rounds of completion


@dataclass(frozen=True)
class Seen:
    """One object of a rendered scene: `image` (h, w, 3), `truth` and `other` (h, w) bool, its own exact mask
    and that of the other object; `maps` kind → (h, w), on the grid of attention; `given`: what a place on the
    object gives to one on the same object, on the other one and on the background, 1 if it gave to all alike.
    """

    concept: str
    image: np.ndarray = field(repr=False)
    truth: Tensor = field(repr=False)
    other: Tensor = field(repr=False)
    maps: dict[Kind, Tensor] = field(repr=False)
    given: tuple[float, float, float]


def one_object(pipe, finest: int, best: Blocks | None, each: int = 2) -> list[Seen]:
    """`each` scenes of every class, one object in each, shown to the UNet once.

        seen = one_object(pipe, settings.finest, settings.best)
        miou(seen, ("all blocks", 1))

    Maps: ("all blocks", rounds) for ROUNDS, ("best block", 0) and 1; ("× noise", floor) and
    ("× received", floor) for floors .85 and 0: the map times the row sums or the column sums of
    self-attention, stretched.
    """
    found = []
    for k, concept in enumerate(CONCEPTS, 1):
        for i in range(each):
            picture = scene(1000 * k + i, concepts=[concept], plain=True)
            trace, affinity = _shown(pipe, picture, finest)
            text = f"a photograph of {with_article(concept)}"
            heat = trace.maps(text)[concept]
            sharp = trace.maps(text, blocks=best)[concept]
            maps: dict[Kind, Tensor] = {("all blocks", p): _completed(heat, affinity, p) for p in ROUNDS}
            maps |= {("best block", p): _completed(sharp, affinity, p) for p in (0, 1)}
            for floor in (0.85, 0.0):
                maps["× noise", floor] = heat * (floor + (1 - floor) * stretched_rows(affinity, heat))
                maps["× received", floor] = weigh(heat, affinity, floor=floor)
            found.append(_seen(picture, concept, None, maps, affinity))
    return found


def two_objects(pipe, finest: int, count: int = 16) -> list[Seen]:
    """`count` scenes of two objects, each of which is looked for in turn.

    Maps: ("one named", rounds), where the text names the object alone, and ("both named", rounds), where it
    names the other one too; rounds 0 and 1.
    """
    found = []
    for picture in stream("validation", count, objects=2):
        trace, affinity = _shown(pipe, picture, finest)
        names = [thing.concept for thing in picture.objects]
        for concept, other in (names, names[::-1]):
            text = f"a photograph of {with_article(concept)}"
            texts = {"one named": text, "both named": f"{text} and {with_article(other)}"}
            maps: dict[Kind, Tensor] = {
                (named, p): _completed(trace.maps(prompt)[concept], affinity, p)
                for named, prompt in texts.items()
                for p in (0, 1)
            }
            found.append(_seen(picture, concept, other, maps, affinity))
    return found


def stretched_rows(affinity: Tensor, heat: Tensor) -> Tensor:
    """What OVAM's published weights come to: the sums of the rows of `affinity` (h·w, h·w), negated,
    stretched to 0…1 and resized to `heat` (h, w)."""
    sums = -affinity.float().sum(dim=1).unflatten(0, grid_like(tuple(heat.shape), len(affinity)))
    return resize(minmax(sums), tuple(heat.shape))


def described(values: Tensor, objects: Tensor) -> str:
    """What a picture of `values` (h, w) shows, given the heat of the `objects` (h, w).

    "one even colour" if all values are equal, "the two objects" if they correlate with that heat above .5,
    else "random specks".
    """
    values, objects = (each.float().cpu().flatten() for each in (values, objects))
    if values.min() == values.max():
        return "one even colour"
    alike = torch.corrcoef(torch.stack([values, objects]))[0, 1]
    return "the two objects" if alike.abs() > 0.5 else "random specks"


def by_class(seen: Sequence[Seen], kind: Kind, threshold: float = 0.5) -> dict[str, float]:
    """Each class's IoU: the overlap of all its masks over all that they cover."""
    both: dict[str, int] = {}
    either: dict[str, int] = {}
    for part in seen:
        mask = binarize(resize(part.maps[kind], part.truth), threshold)
        both[part.concept] = both.get(part.concept, 0) + int((mask & part.truth).sum())
        either[part.concept] = either.get(part.concept, 0) + int((mask | part.truth).sum())
    return {concept: both[concept] / either[concept] for concept in both}


def miou(seen: Sequence[Seen], kind: Kind, threshold: float | None = 0.5) -> float:
    """The mean of the classes' IoU; `threshold=None`: the best of THRESHOLDS."""
    cuts = THRESHOLDS if threshold is None else (threshold,)
    return max(float(np.mean(list(by_class(seen, kind, cut).values()))) for cut in cuts)


def leak(seen: Sequence[Seen], kind: Kind) -> float:
    """The mean heat on the other object over that on the object itself, the map's lowest value taken for 0:
    the median over all objects."""
    ratios = []
    for part in seen:
        heat = resize(part.maps[kind], part.truth)
        heat = heat - heat.min()
        ratios.append(float(heat[part.other].mean() / heat[part.truth].mean()))
    return float(np.median(ratios))


def given(seen: Sequence[Seen]) -> dict[str, float]:
    """What a place on an object gives, on average, to a place of each kind: 1 is the even share."""
    means = np.nanmean([part.given for part in seen], axis=0)
    return dict(
        zip(("the same object", "the other object", "the background"), map(float, means), strict=True)
    )


@dataclass(frozen=True)
class Click:
    """A place that was clicked, in the middle of an object: `image` (h, w, 3) and `truth` (h, w) bool;
    `affinity` (h·w, h·w) on `grid` (h, w), and the `place` (y, x) on it."""

    image: np.ndarray = field(repr=False)
    truth: Tensor = field(repr=False)
    affinity: Tensor = field(repr=False)
    grid: tuple[int, int]
    place: tuple[int, int]

    def mask(self, cut_out: Callable[..., Tensor]) -> Tensor:
        """What `cut_out(affinity, place, grid, size)` makes of it; TypeError for what is no mask."""
        size = tuple(self.truth.shape)
        mask = cut_out(self.affinity, self.place, self.grid, size)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != size:
            raise TypeError(f"The mask should be a bool tensor {size}: resize first, then `ov.binarize`.")
        return mask.cpu()


def clicks(pipe, finest: int, count: int = 14, first: int = 0) -> list[Click]:
    """`count` scenes of one object, of every second class from `first` on; the place deepest inside it."""
    found = []
    for k in range(first, first + 2 * count, 2):
        concept = CONCEPTS[k % len(CONCEPTS)]
        picture = scene(50_000 + k, concepts=[concept], plain=True)
        _, affinity = _shown(pipe, picture, finest)
        truth = picture.mask(concept)
        grid = grid_like(truth.shape, len(affinity))
        deepest = np.unravel_index(distance_transform_edt(truth).argmax(), truth.shape)
        y, x = (int(at * n // side) for at, n, side in zip(deepest, grid, truth.shape, strict=True))
        found.append(Click(picture.image, torch.from_numpy(truth), affinity, grid, (y, x)))
    return found


def click_iou(cut_out: Callable[..., Tensor], clicked: Sequence[Click]) -> float:
    """The mean IoU of the masks that `cut_out(affinity, place, grid, size)` makes of single places."""
    return float(np.mean([overlap(click.mask(cut_out), click.truth) for click in clicked]))


def overlap(mask: Tensor, truth: Tensor) -> float:
    """IoU of two masks (h, w)."""
    return float((mask & truth).sum() / (mask | truth).sum())


def disc(part: float) -> Callable[..., Tensor]:
    """A mask without attention: a disc around the place, its radius a `part` of the shorter side."""

    def cut_out(
        affinity: Tensor, place: tuple[int, int], grid: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        y, x = (torch.arange(side) + 0.5 for side in size)
        middle = [(at + 0.5) * side / cells for at, side, cells in zip(place, size, grid, strict=True)]
        return (y[:, None] - middle[0]) ** 2 + (x - middle[1]) ** 2 < (part * min(size)) ** 2

    return cut_out


def best_disc(clicked: Sequence[Click]) -> float:
    """The mean IoU of the best of all discs: the level to beat."""
    return max(click_iou(disc(part), clicked) for part in np.arange(0.06, 0.5, 0.02))


def _shown(pipe, picture: Scene, finest: int) -> tuple[Trace, Tensor]:
    trace = record_image(pipe, picture.image, picture.caption, self_attention=(finest,))
    return trace, trace.self_attention(finest)


def _completed(heat: Tensor, affinity: Tensor, rounds: int) -> Tensor:
    return complete(heat, affinity, power=rounds) if rounds else heat


def _seen(
    picture: Scene, concept: str, other: str | None, maps: dict[Kind, Tensor], affinity: Tensor
) -> Seen:
    truth = torch.from_numpy(picture.mask(concept))
    beside = torch.from_numpy(picture.mask(other)) if other else torch.zeros_like(truth)
    grid = grid_like(tuple(truth.shape), len(affinity))
    own, rival = (resize(mask, grid).flatten() > 0.5 for mask in (truth, beside))
    rows = affinity[own] * len(affinity)
    parts = [float(rows[:, to].mean()) for to in (own, rival, ~(own | rival))]
    return Seen(concept, picture.image, truth, beside, maps, (parts[0], parts[1], parts[2]))
