"""Scenes cut into classes: what the UNet saw, how well it fits, and how that looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..class_maps import fuse, resolutions
from ..crf import load_crf
from ..emoji.scenes import Scene
from ..emoji.scores import cut, sweep
from ..emoji.sprites import CONCEPTS
from ..images import encode_image, encode_prompts, noised, observe, prepare
from ..plot.figures import new_figure, show, show_labels
from ..recipe import SegmentRecipe
from ..refine import complete, minmax
from ..segmentation import Segmentation, segment, with_edges
from ..text import TextEncoder
from ..unet import attention_grids

BLUE, ORANGE = "#0072B2", "#D55E00"
BACKGROUND = {
    "grass": "on grass",
    "sand": "on sand",
    "snow": "in the snow",
    "water": "on water",
    "sky": "in the sky",
    "night": "at night",
    "brick": "by a brick wall",
    "wood": "on wood",
}


def record_classes(
    pipe, image: Image.Image, names: Sequence[str], recipe: SegmentRecipe, seed: int = 0
) -> tuple[dict[int, Tensor], Tensor]:
    """One pass for each class, with its own prompt: {how many times smaller than the latents: the class
    word's map (class, h, w)}, and self-attention on the finest grid (class, h·w, h·w)."""
    prompts = [recipe.template.format(name) for name in names]
    latents = encode_image(pipe, prepare(pipe, image, recipe.size))
    states, extra = encode_prompts(pipe, prompts, latents)
    finest = attention_grids(pipe.unet, latents.shape[-2:])[0]
    draws = noised(pipe, latents, recipe.timesteps, recipe.samples, seed)
    trace = observe(pipe, draws, states, extra, self_attention=(finest,), dtype=torch.float32)
    encoder, maps = TextEncoder.of(pipe), []
    for i, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        place = encoder.read(prompt).places((name,))[0][-1:]  # the last sub-token
        found = resolutions(trace, states[i], i, max(latents.shape[-2:]))
        maps.append({times: each[place].mean(dim=0).cpu() for times, each in found.items()})
    heats = {
        times: torch.stack([each[times] for each in maps]) for times in maps[0] if times in recipe.weights
    }
    affinity = torch.stack([trace.self_attention(finest, image=i).cpu().float() for i in range(len(names))])
    return heats, affinity


def class_steps(
    image, names: Sequence[str], heats: Mapping[int, Tensor], weights: Mapping[int, float], affinity: Tensor
) -> Figure:
    """A row for each class: its map on each grid, their weighted sum, and the sum completed, each from its
    lowest to its highest value."""
    figure = new_figure(1.6 * (len(heats) + 3) + 0.6, 1.65 * len(names) + 0.2)
    axes = figure.subplots(len(names), len(heats) + 3, squeeze=False)
    for c, (row, name) in enumerate(zip(axes, names, strict=True)):
        fused = fuse({times: each[c] for times, each in heats.items()}, weights)
        panels = {f"{each.shape[-2]}×{each.shape[-1]}": each[c] for each in heats.values()}
        panels |= {"weighted sum": fused, "completed": complete(fused, affinity[c])}
        show(image, ax=row[0], title="picture" if c == 0 else None)
        for ax, (title, heat) in zip(row[1:], panels.items(), strict=True):
            drawn = ax.imshow(minmax(heat), vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[], title=title if c == 0 else "")
        row[0].set_ylabel(name)
    figure.colorbar(drawn, ax=axes, label="0 lowest, 1 highest", shrink=0.8)
    return figure


def truth_of(picture: Scene, names: Sequence[str]) -> np.ndarray:
    """A scene's true labels (h, w): 0, or k for names[k - 1]."""
    return np.select([picture.mask(name) for name in names], range(1, len(names) + 1))


def only(result: Segmentation, names: Sequence[str]) -> Tensor:
    """Labels (h, w) of some of the classes: k for names[k - 1], and 0 for all others."""
    labels = torch.zeros_like(result.labels)
    for k, name in enumerate(names, 1):
        labels[result.mask(name)] = k
    return labels


def by_colour(image, labels: Tensor, names: Sequence[str]) -> Figure:
    """A picture with small, scattered labels, named in the legend alone."""
    figure = show_labels(image, labels, names)
    for text in list(figure.axes[0].texts):
        text.remove()
    return figure


def side_by_side(image, labels: Mapping[str, Tensor | np.ndarray], names: Sequence[str]) -> Figure:
    """The same picture with several label maps, (h, w) each."""
    w, h = image.size
    figure = new_figure(2.3 * len(labels) * min(w / h, 1.5), 2.5)
    axes = np.atleast_1d(figure.subplots(1, len(labels)))
    for ax, (title, each) in zip(axes, labels.items(), strict=True):
        show_labels(image, each, names, ax=ax)
        ax.set_title(title, fontsize=10)
        ax.get_legend().remove()
    return figure


def noise_film(pictures: Tensor, titles: Sequence[str]) -> Figure:
    """Pictures (picture, 3, h, w), 0 to 1, side by side."""
    figure = new_figure(1.65 * len(titles), 1.95)
    for ax, each, title in zip(figure.subplots(1, len(titles)), pictures, titles, strict=True):
        show(each, ax=ax)
        ax.set_title(title, fontsize=10)
    return figure


def best_miou(pipe, scenes: Sequence[Scene], recipe: SegmentRecipe, background_named: bool = False) -> float:
    """mIoU on scenes whose classes are given, at the background score that suits them; the text may go on
    with what the background is."""
    results = named(pipe, scenes, recipe) if background_named else cut(pipe, scenes, recipe)
    return max(sweep(results).values())


def named(pipe, scenes: Sequence[Scene], recipe: SegmentRecipe):
    """Every scene with its segmentation, by texts that say what the background is."""
    for each in scenes:
        own = [thing.concept for thing in each.objects]
        yield each, segment(pipe, each.image, own, recipe=recipe, caption=BACKGROUND[each.ground])


def changes(tuned: SegmentRecipe) -> dict[str, dict]:
    """Groups of a recipe's fields that differ from the paper's, in the order in which they were chosen."""
    groups = {
        "where": ("blocks", "weights"),
        "one text": ("together",),
        "plain name": ("template", "article"),
    }
    taken = {name for fields in groups.values() for name in fields} | {"samples", "background"}
    groups["the rest"] = tuple(name for name in vars(tuned) if name not in taken)
    return {name: {field: getattr(tuned, field) for field in fields} for name, fields in groups.items()}


def ladder(
    pipe, scenes: Sequence[Scene], paper: SegmentRecipe, steps: Mapping[str, Mapping]
) -> dict[str, float]:
    """mIoU of the paper's recipe, and after each further group of changes, all earlier ones kept."""
    recipe, found = paper, {"the paper's recipe": best_miou(pipe, scenes, paper)}
    for name, fields in steps.items():
        recipe = replace(recipe, **fields)
        found[name] = best_miou(pipe, scenes, recipe)
    return found


def alone(
    pipe, scenes: Sequence[Scene], paper: SegmentRecipe, steps: Mapping[str, Mapping]
) -> dict[str, float]:
    """mIoU of the paper's recipe with one group of changes only."""
    return {name: best_miou(pipe, scenes, replace(paper, **fields)) for name, fields in steps.items()}


def draw_ladder(found: Mapping[str, float]) -> Figure:
    """What a recipe scores as its changes are made, one after another."""
    names = list(found)
    figure = new_figure(6.6, 2.6)
    ax = figure.subplots()
    ax.barh(names, list(found.values()), color=BLUE)
    for y, (one, before) in enumerate(zip(found.values(), [0, *found.values()], strict=False)):
        ax.text(one + 0.01, y, f"{one:.2f}" + (f"  ({one - before:+.2f})" if y else ""), va="center")
    ax.set_yticks(range(len(names)), [names[0], *(f"+ {name}" for name in names[1:])])
    ax.invert_yaxis()
    ax.set(xlabel="mIoU, validation scenes", xlim=(0, 1))
    return figure


def line(values: Mapping[float, float], label: str) -> Figure:
    """mIoU against one setting."""
    figure = new_figure(4.6, 2.5)
    ax = figure.subplots()
    ax.plot(list(values), list(values.values()), "o-", color=BLUE)
    ax.set(xlabel=label, ylabel="mIoU, validation scenes", ylim=(0, 1))
    ax.set_xticks(list(values))
    return figure


def draw_curves(curves: Mapping[str, Mapping[float, float]], chosen: float) -> Figure:
    """mIoU on test scenes at every background score, and the one that was chosen before."""
    figure = new_figure(6, 3)
    ax = figure.subplots()
    for (name, curve), style, colour in zip(curves.items(), ("o-", "s--"), (BLUE, ORANGE), strict=True):
        ax.plot(list(curve), list(curve.values()), style, color=colour, label=name, markersize=4)
    ax.axvline(chosen, color="0.4", linestyle=":", label="chosen on validation scenes")
    ax.set(xlabel="background score β", ylabel="mIoU, test scenes", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


def filter_quality(keep: Callable, scenes: Sequence[Scene]) -> tuple[float, float]:
    """Of the classes that a filter keeps, the share that is there; of those there, the share it keeps."""
    right = kept = there = 0
    for each in scenes:
        truth = {thing.concept for thing in each.objects}
        found = set(keep(each.image, CONCEPTS))
        right, kept, there = right + len(found & truth), kept + len(found), there + len(truth)
    return right / max(kept, 1), right / there


def label_sheet(results: Sequence[tuple[Scene, Segmentation]], recipe: SegmentRecipe) -> Figure:
    """Scenes with the truth, the answer and, where its package is installed, the answer after a CRF."""
    rows = ["truth", "answer", "after the CRF"]
    try:
        load_crf()
    except ImportError as missing:
        print(missing)
        rows.pop()
    figure = new_figure(1.55 * len(results), 1.6 * len(rows))
    axes = figure.subplots(len(rows), len(results), squeeze=False)
    for column, (each, result) in zip(axes.T, results, strict=True):
        sharp = (recipe.crf_background, recipe.crf_sharpness)
        made = {
            "truth": lambda each=each, result=result: truth_of(each, result.classes),
            "answer": lambda result=result: result.labels,
            "after the CRF": lambda each=each, result=result, sharp=sharp: with_edges(
                result.scores, each.image, *sharp
            ).argmax(dim=0),
        }
        for ax, row in zip(column, rows, strict=True):
            show_labels(each.image, made[row](), result.classes, ax=ax)
            ax.get_legend().remove()
    for ax, row in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(row)
    return figure
