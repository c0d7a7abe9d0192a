"""Chapter 06: its predictions, its exercises, its drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..class_maps import fuse
from ..emoji.scores import cut, sweep
from ..emoji.streams import stream
from ..plot.diagrams import arrow, box, drawing, note
from ..recipe import SEGMENT_RECIPES
from ..refine import complete, minmax, resize
from ..segmentation import labels_of
from .exercises import Exercise, Open, verdict_of

TITLE = "Images the model did not make"
PREDICTIONS = {
    "06.1": "the labels of four pixels",
    "06.2": "how much noise costs next to nothing",
    "06.3": "which of four changes to the recipe gains most",
    "06.4": "what happens when all 28 classes are candidates",
    "06.5": "the mIoU on test scenes",
    "06.6": "which of three things matters most",
}
HIDDEN, MARGIN = 8, 0.12  # test scenes that judge an answer of 06.c, and how far it must be ahead on them
OWN_CHOICE = ("timesteps", "samples", "template", "article", "together", "background")


def diagram() -> Figure:
    """From a picture to its labels, with the chapter's sections below."""
    figure, ax = drawing(13.4, 2.9)
    steps = (
        ("picture", "image", "sections 1, 8"),
        ("picture\nwith noise", "image", "sections 1, 5"),
        ("UNet,\none pass", "plain", ""),
        ("maps of the\nclass, one\nfor each grid", "attention", "section 3"),
        ("weighted\nsum", "attention", "section 3"),
        ("completed", "attention", "section 3"),
        ("stretched\nto 0…1\n(min-max)", "attention", "section 2"),
        ("the highest\nclass, or\nbackground", "result", "section 2"),
    )
    boxes = [
        box(ax, 0.15 + 1.67 * i, 0.6, text, kind, width=1.35, height=0.95)
        for i, (text, kind, _) in enumerate(steps)
    ]
    for start, end in pairwise(boxes):
        arrow(ax, start, end)
    for (x, _, width, _), (_, _, section) in zip(boxes, steps, strict=True):
        note(ax, x + width / 2, 0.45, section, ha="center")
    box(ax, 2.6, 2.1, "“a photograph of dog”", "text", width=2.1, height=0.6)
    own = box(ax, 8.225, 2.1, "self-attention", "attention", width=1.9, height=0.6)
    arrow(ax, (3.9, 2.1), (boxes[2][0] + 0.5, boxes[2][1] + 0.95))
    arrow(ax, (4.4, 1.55), own, curve=-0.15)
    arrow(ax, own, boxes[5])
    note(ax, 0.15, 2.6, "once for each class,\nwith its own prompt")
    return figure


def labels_from(heat: Tensor, background: float) -> Tensor:
    """heat (class, h, w), each class on its own scale → labels (h, w): 0, or 1 for the first class, …"""
    return labels_of(minmax(heat), background)


def _heat(generator: torch.Generator, classes: int, h: int, w: int) -> Tensor:
    """Heat of classes that are not on one scale, (class, h, w)."""
    scale = torch.tensor([1.0, 0.4, 0.1])[:classes, None, None]
    return scale * (0.3 + torch.rand(classes, h, w, generator=generator))


def _off_by_one(heat: Tensor, background: float) -> Tensor:
    best, index = minmax(heat).max(dim=0)
    return torch.where(best > background, index, 0)


def _at_each_pixel(heat: Tensor, background: float) -> Tensor:
    low, high = heat.amin(dim=0), heat.amax(dim=0)
    return labels_of((heat - low) / (high - low), background)


LABELS = Exercise(
    name="06.a",
    title="labels from heat maps",
    stars=1,
    cases=lambda generator: [(_heat(generator, 3, 5, 7), 0.5), (_heat(generator, 2, 6, 4), 0.7)],
    right=labels_from,
    ideas={
        "One minimum and maximum for all classes: the word with most attention wins. Each class needs its "
        "own.": (
            lambda heat, background: labels_of((heat - heat.min()) / (heat.max() - heat.min()), background)
        ),
        "Nothing was stretched, so the classes are not on one scale yet.": labels_of,
        "The classes were stretched at each pixel, so every pixel has a class of score 1. Take minimum and "
        "maximum over the pixels of one class.": _at_each_pixel,
        "No pixel is background. Compare the best score with the background score.": (
            lambda heat, background: minmax(heat).argmax(dim=0) + 1
        ),
        "Off by one: 0 is the background, and the first class is 1.": _off_by_one,
        "A softmax over the classes is not min-max: its values depend on how many classes there are.": (
            lambda heat, background: labels_of(heat.softmax(dim=0), background)
        ),
        "Rows and columns are swapped: labels are (h, w), as the heat is.": (
            lambda heat, background: labels_from(heat, background).T
        ),
    },
    says="Every class on its own scale, then the highest, if it exceeds the background.",
    otherwise="Try it on the four pixels of section 2, where you know the answer.",
    close=0,
)


def segmented(
    heats: Mapping[int, Tensor], weights: Mapping[int, float], affinity: Tensor, background: float
) -> Tensor:
    """Labels (h, w) on the finest grid: `heats` {how many times smaller than the latents: (class, h, w)},
    `affinity` (class, h·w, h·w), the self-attention of each class's pass."""
    return labels_of(minmax(completed(heats, weights, affinity)), background)


def completed(heats: Mapping[int, Tensor], weights: Mapping[int, float], affinity: Tensor) -> Tensor:
    """M_c = A_c · Σ_r w_r minmax(A_r[c]), (class, h, w), before it is stretched."""
    found = []
    for c, own in enumerate(affinity):
        one = {times: each[c] for times, each in heats.items()}
        found.append(complete(fuse(one, weights), own))
    return torch.stack(found)


def _other(
    each: Callable[[Tensor], Tensor] = minmax,
    *,
    summed: Callable[[Tensor], Tensor] = lambda heat: heat,
    weighed: bool = True,
    walk: Callable[[Tensor, Tensor], Tensor] | None = None,
    at_the_end: Callable[[Tensor], Tensor] = minmax,
    labels: Callable[[Tensor, float], Tensor] = labels_of,
) -> Callable[..., Tensor]:
    """The method with one step exchanged: what is done to each resolution's maps, to their sum, to complete
    them (heat, affinity), to the completed maps, and to make labels of scores."""

    def answer(heats: Mapping, weights: Mapping, affinity: Tensor, background: float) -> Tensor:
        grid = tuple(heats[min(heats)].shape[-2:])
        parts = [
            (weights[times] if weighed else 1.0) * each(resize(heat, grid)) for times, heat in heats.items()
        ]
        fused = summed(sum(parts)).flatten(1)[..., None]  # (class, h·w, 1)
        maps = affinity @ fused if walk is None else walk(fused, affinity)
        return labels(at_the_end(maps[..., 0].unflatten(-1, grid)), background)

    return answer


def _completed_first(heats: Mapping, weights: Mapping, affinity: Tensor, background: float) -> Tensor:
    grid = tuple(heats[min(heats)].shape[-2:])
    parts = [
        weights[times]
        * minmax((affinity @ resize(heat, grid).flatten(1)[..., None])[..., 0].unflatten(-1, grid))
        for times, heat in heats.items()
    ]
    return labels_of(minmax(sum(parts)), background)


def _together(maps: Tensor) -> Tensor:
    return (maps - maps.min()) / (maps.max() - maps.min())


def _passes(generator: torch.Generator, classes: int, h: int, w: int) -> tuple:
    """What some passes recorded: maps whose scales differ by class and by resolution, and self-attention of
    places that look alike."""
    scales = {1: 1.0, 2: 4.0, 4: 0.3}
    heats = {}
    for times, scale in scales.items():
        sides = (-(-h // times), -(-w // times))
        own = torch.tensor([1.0, 0.5, 0.2])[:classes, None, None]
        heats[times] = scale * own * (0.2 + torch.rand(classes, *sides, generator=generator))
    kinds = torch.randn(classes, h * w, 3, generator=generator)
    affinity = (3 * kinds @ kinds.mT + 4 * torch.rand(h * w, generator=generator)).softmax(dim=-1)
    return heats, {1: 0.2, 2: 0.3, 4: 0.7, 8: 0.4}, affinity


SEGMENTATION = Exercise(
    name="06.b",
    title="DiffSegmenter on one picture",
    stars=2,
    cases=lambda generator: [(*_passes(generator, 3, 8, 12), 0.5), (*_passes(generator, 2, 12, 4), 0.6)],
    right=segmented,
    ideas={
        "The resolutions are not on one scale: stretch each map to 0…1 before it is weighed.": _other(
            lambda heat: heat
        ),
        "The maps of all classes were stretched together: each class needs its own minimum and maximum.": (
            _other(_together)
        ),
        "The weights are not used: each resolution has its own.": _other(weighed=False),
        "Nothing was completed by self-attention.": _other(walk=lambda heat, affinity: heat),
        "Columns of the self-attention say what a place receives. Completion takes its rows, "
        "`affinity @ heat`.": (_other(walk=lambda heat, affinity: affinity.mT @ heat)),
        "One pass's self-attention served all classes: each class has its own.": _other(
            walk=lambda heat, affinity: affinity[:1] @ heat
        ),
        "Each resolution was completed by itself, then stretched. Sum first, then complete once.": (
            _completed_first
        ),
        "The background came too early: stretch the completed maps to 0…1 before you compare.": _other(
            at_the_end=lambda maps: maps
        ),
        "At the end all classes were stretched together: each needs its own minimum and maximum.": _other(
            at_the_end=_together
        ),
        "No pixel is background. Compare the best score with the background score.": _other(
            labels=lambda scores, background: scores.argmax(dim=0) + 1
        ),
    },
    says="Stretch, weigh, sum, complete, stretch again, and let the highest win: that is the whole method.",
    otherwise="Follow the formula from right to left; `ov.resize(maps, grid)` takes (class, h, w).",
    close=0,
)


def yours_or_ours(mine: Callable) -> Callable:
    """The reader's segmentation, as soon as it is right, else `segmented`; a line says which."""
    if verdict_of(SEGMENTATION, mine).right:
        print("Your function segments the picture.")
        return mine
    print("The course's function segments the picture, until yours is right.")
    return segmented


def enlarged(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (h, w) at another size, in blocks: a label between two classes would be a third one."""
    rows = torch.arange(size[0]) * labels.shape[0] // size[0]
    columns = torch.arange(size[1]) * labels.shape[1] // size[1]
    return labels[rows[:, None], columns]


def judge_recipe(answer: object, *, pipe, hidden: int = HIDDEN) -> tuple[bool, str]:
    """Whether changes of the paper's recipe, {field: value}, gain a clear margin on hidden test scenes."""
    if not isinstance(answer, Mapping):
        return False, f"Give a dict of changes, with some of: {', '.join(OWN_CHOICE)}."
    if others := [str(name) for name in answer if name not in OWN_CHOICE]:
        return False, f"{', '.join(others)}: not here. Choose only {', '.join(OWN_CHOICE)}."
    paper = SEGMENT_RECIPES["paper"]
    try:
        chosen = paper.changed(answer)
    except (TypeError, ValueError) as error:
        return False, f"That is no recipe: {error}"
    scenes = stream("test", 60, objects=2)[-hidden:]
    before, after = (
        sweep(cut(pipe, scenes, recipe), backgrounds=[recipe.background])[recipe.background]
        for recipe in (paper, chosen)
    )
    text = f"On hidden scenes: mIoU {after:.2f}, the paper's recipe {before:.2f}."
    if after > before + MARGIN:
        return True, f"{text} You chose without seeing them."
    return False, f"{text} Get {MARGIN} above it. What do the validation scenes say of each choice alone?"


EXERCISES = (LABELS, SEGMENTATION, Open("06.c", "a recipe of your own", judge_recipe))
