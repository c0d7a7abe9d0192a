"""Drawn pictures with their labels: made, shown, and learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from ..data.base import Data, Example
from ..downstream.learn import predict
from ..downstream.network import Segmenter
from ..emoji.scenes import scene
from ..emoji.sprites import CONCEPTS
from ..emoji.streams import stream_rng
from ..evaluation.look import Look
from ..notebook import Settings
from ..plot.figures import new_figure
from ..recorder import record
from ..synthesize.label_maps import label_map, with_doubt
from ..trace import Trace

COLOURS = ("#f0f0f0", "#D55E00", "#0072B2", "#E69F00", "#009E73")  # the background, then up to four classes
OBJECT, BACKGROUND, DOUBT = "#fde737", "#00224e", "0.75"


def draw(pipe, settings: Settings, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list, Trace]:
    """Pictures of some prompts, and their recording of a few steps with self-attention."""
    with record(pipe, self_attention=(settings.finest,), steps=settings.few) as trace:
        images = pipe(
            list(prompts),
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
        ).images
    return images, trace


def rendered(classes: Sequence[str], count: int) -> list[Example]:
    """Scenes with exact labels, one object each, the classes in turn; label k is classes[k - 1]."""
    found = []
    for number in range(count):
        name = classes[number % len(classes)]
        picture = scene(stream_rng(7, "validation", number), count=1, concepts=[name])
        labels = np.where(picture.labels == CONCEPTS.index(name) + 1, number % len(classes) + 1, 0)
        found.append(Example(str(number), labels, Image.fromarray(picture.image)))
    return found


def grown(example: Example, pixels: int) -> Example:
    """The example with its labels grown by some pixels on all sides, or shrunk where `pixels` is negative: a
    systematic mistake, like that of a threshold that is too low or too high."""
    labels = torch.from_numpy(np.where(example.labels == 255, 0, example.labels)).float()[None]  # (1, h, w)
    size = 2 * abs(pixels) + 1
    if pixels >= 0:
        moved = F.max_pool2d(labels, size, stride=1, padding=abs(pixels))
    else:
        kept = -F.max_pool2d(-(labels > 0).float(), size, stride=1, padding=abs(pixels))
        moved = labels * kept
    return Example(example.name, moved[0].numpy().astype(example.labels.dtype), example.image)


def called_object(network: Segmenter, examples: Sequence[Example]) -> float:
    """The share of all pixels that the network calls an object."""
    return float(np.mean([(predict(network, each.image) > 0).float().mean().item() for each in examples]))


def show_labels_of_one(ax: Axes, labels: np.ndarray | Tensor) -> None:
    """A label map of one class (h, w): yellow the object, blue the background, grey what does not count."""
    labels = np.asarray(labels)
    ax.imshow(np.where(labels == 255, np.nan, labels > 0), vmin=0, vmax=1, cmap="cividis")
    ax.set(facecolor=DOUBT, xticks=[], yticks=[])


def _keys(figure: Figure) -> None:
    keys = {"object": OBJECT, "background": BACKGROUND, "does not count": DOUBT}
    handles = [Patch(facecolor=colour, edgecolor="0.4", label=name) for name, colour in keys.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def from_map_to_label(image, maps: dict[str, Tensor], labels: Tensor) -> Figure:
    """A picture, its score maps (h, w) from 0 to 1, and the label map that comes of the last."""
    figure = new_figure(2.1 * (len(maps) + 2), 2.7)
    axes = figure.subplots(1, len(maps) + 2)
    axes[0].imshow(image)
    axes[0].set(title="picture", xticks=[], yticks=[])
    for ax, (title, values) in zip(axes[1:], maps.items(), strict=False):
        shown = ax.imshow(values.cpu(), vmin=0, vmax=1, cmap="viridis")
        ax.set(title=title, xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[1:-1], label="score", shrink=0.7)
    show_labels_of_one(axes[-1], labels)
    axes[-1].set_title("label map")
    _keys(figure)
    return figure


def label_sheet(examples: Sequence[Example], columns: int = 4) -> Figure:
    """Pictures with their label maps below, the name of each above it."""
    rows = -(-len(examples) // columns)
    figure = new_figure(1.45 * columns, 2.9 * rows + 0.4)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, example in enumerate(examples):
        top, bottom = axes[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        top.imshow(example.image)
        top.set_title(example.name.rsplit("-", 1)[0], fontsize=9)
        bottom.set_axis_on()
        show_labels_of_one(bottom, example.labels)
    _keys(figure)
    return figure


def odd_ones(
    pipe, settings: Settings, tokens, data: Data, names: Sequence[str], low: float, high: float
) -> Figure:
    """Pictures of a drawn set, drawn again from their prompts and seeds: our label, and the segmenter's, with
    orange lines where the two disagree."""
    examples = [data[data.names.index(name)] for name in names]
    images, trace = draw(pipe, settings, [e.prompt for e in examples], [e.seed for e in examples])
    figure = new_figure(2 * len(names), 5.6)
    axes = figure.subplots(3, len(names))
    for place, (column, example, image) in enumerate(zip(axes.T, examples, images, strict=True)):
        label = example.present()[0]
        concept = data.classes[label - 1]
        look = Look(pipe, image, trace, example.prompt, (concept,), tokens, row=place)
        mine = label_map(with_doubt(look), [1], low, high)
        truth = torch.from_numpy(np.where(example.labels == label, 1, example.labels))
        wrong = (mine != truth) & (mine != 255) & (truth != 255)
        column[0].imshow(image)
        column[0].set(title=concept, xticks=[], yticks=[])
        show_labels_of_one(column[1], mine)
        show_labels_of_one(column[2], truth)
        column[1].contour(wrong.float(), levels=[0.5], colors="#D55E00", linewidths=1)
    for ax, name in zip(axes[:, 0], ("picture", "our label", "the segmenter's"), strict=True):
        ax.set_ylabel(name)
    _keys(figure)
    return figure


def what_it_sees(network: Segmenter, learned: Sequence[Example], test: Sequence[Example], classes) -> Figure:
    """Pictures that a network learned from, and test scenes with what it says and what is true; colours name
    the classes."""
    count = min(len(learned), len(test))
    figure = new_figure(1.3 * count + 0.4, 5.4)
    axes = figure.subplots(4, count)
    for column, taught, example in zip(axes.T, learned, test, strict=False):
        for ax, image in zip(column[:2], (taught.image, example.image), strict=True):
            ax.imshow(image)
        for ax, labels in zip(
            column[2:], (predict(network, example.image).cpu(), example.labels), strict=True
        ):
            colours = ListedColormap(COLOURS[: len(classes) + 1])
            ax.imshow(labels, vmin=0, vmax=len(classes), cmap=colours, interpolation="nearest")
    for ax, name in zip(axes[:, 0], ("learned from", "test scene", "network", "truth"), strict=True):
        ax.set_ylabel(name)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    names = zip(COLOURS, ("background", *classes), strict=False)
    handles = [Patch(facecolor=colour, edgecolor="0.4", label=name) for colour, name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure
