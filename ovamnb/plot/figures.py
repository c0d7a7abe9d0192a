"""Figures: an image with a heat map or a mask over it, and one panel per word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ..notebook import sign
from ..plumbing import checks

BRIGHTEST = 2.0  # an image of floats 0 to 1 may overshoot where it was resized, but does not count to 255
HEAT = "viridis"  # rises evenly in lightness: readable in print and with any colour vision
MASK = (0.00, 0.45, 0.70)  # blue of the Okabe-Ito palette: masks lie on objects, and few of them are blue
LABELS = ("#0072B2", "#E69F00", "#CC79A7", "#F0E442", "#56B4E9", "#D55E00", "#009E73", "#999999")  # Okabe-Ito
DPI = 90  # sharp enough on a screen, and small in a notebook


def show(
    image,
    mask_or_heat: Tensor | np.ndarray | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    label: str = "attention (sum over heads, steps, blocks)",
    vmax: float | None = None,
) -> Figure:
    """Draw an image, with a mask outlined or a heat map laid over it, and return the figure.

        ov.show(image)
        ov.show(image, mask)                                     # bool (h, w)
        ov.show(image, heat, title="kitten", label="share of attention")
        ov.show(image, heat, ax=axes[0])                         # into a figure of your own

    `image`: a PIL image, an array (h, w), (h, w, 3) or a tensor (3, h, w); uint8, or floats 0 to 1.
    Mask and heat may have any grid: they are stretched over the image. `label` names the heat's unit beside
    its colour bar, `vmax` the value of the brightest colour (the map's maximum by default).

    Raises ValueError for what is no image, and for a map that is not finite or not (h, w).
    """
    pixels = to_pixels(image)
    _check_words(ax=ax, title=title, label=label)
    drawn = None if mask_or_heat is None else to_array(mask_or_heat)
    if ax is None:
        h, w = pixels.shape[:2]
        ax = new_figure(3.6 * min(w / h, 2) + 0.6, 3.6 * min(w / h, 2) * h / w + 0.4).subplots()
    if drawn is None:
        _axes_for(ax, pixels, title)
        ax.imshow(pixels)
    elif drawn.dtype == bool:
        outline(ax, pixels, drawn)
    else:
        layer = overlay(ax, pixels, drawn, vmax=vmax)
        ax.figure.colorbar(layer, ax=ax, label=label, fraction=0.046, pad=0.04)
    _axes_for(ax, pixels, title)
    return ax.figure


def overlay(
    ax: Axes, image, heat, *, alpha: float = 0.6, vmax: float | None = None, cmap: str = HEAT
) -> ScalarMappable:
    """Draw `heat` (h, w), any grid, over `image` on the given Axes; returns what a colour bar needs.

    Raises ValueError as `show` does, and for a colour map that matplotlib does not know.
    """
    pixels, heat = to_pixels(image), to_array(heat)
    checks.instance("ax", ax, Axes, "the Axes to draw on")
    low = min(0.0, float(heat.min()))
    _check_colours(low, vmax, cmap)
    checks.number("alpha", alpha, 0, 1)
    ax.imshow(pixels)
    layer = ax.imshow(
        heat,
        extent=_extent(pixels),
        cmap=cmap,
        vmin=low,
        vmax=vmax,
        alpha=alpha,
        interpolation="bilinear",
    )
    return ScalarMappable(layer.norm, layer.cmap)  # the layer itself would make a bar that shines through


def outline(ax: Axes, image, mask, *, color: tuple[float, float, float] = MASK, alpha: float = 0.45) -> None:
    """Draw `mask` (h, w), bool, over `image` on the given Axes: tinted, with its border drawn."""
    pixels = to_pixels(image)
    ax.imshow(pixels)
    _tint(ax, pixels, to_array(mask), color, alpha)


def show_labels(
    image,
    labels: Tensor | np.ndarray,
    classes: Sequence[str],
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Draw an image with a label map over it, names in their regions and a legend; return the figure.

        result = ov.segment(pipe, image, ["cat", "car"])
        ov.show_labels(image, result.labels, result.classes)

    `labels` (h, w) int: 0 is the background, k the class `classes[k - 1]`; other values are not drawn. Eight
    colours that differ for any colour vision come round again after eight classes, so trust the names.

    Raises ValueError for labels of another size than the image's, and TypeError for labels that are no whole
    numbers and classes that are no list of names.
    """
    pixels = to_pixels(image)
    _check_words(ax=ax, title=title)
    classes = checks.entries("classes", classes, "names, such as ['cat', 'car']")
    for name in classes:
        checks.instance("Each of the classes", name, str, "a name")
    numbers = checks.tensor("labels", labels, "(h, w)").detach().cpu().numpy()
    if numbers.dtype.kind not in "biu":
        raise TypeError(f"Labels are whole numbers (h, w), not {numbers.dtype}: see `ov.segment(…).labels`.")
    if numbers.shape != pixels.shape[:2]:
        raise ValueError(f"The labels are {numbers.shape}, but the image is {pixels.shape[:2]}: (h, w) each.")
    if ax is None:
        h, w = pixels.shape[:2]
        ax = new_figure(3.6 * min(w / h, 2) + 1.8, 3.6 * min(w / h, 2) * h / w + 0.4).subplots()
    ax.imshow(pixels)
    legend = []
    for k, name in enumerate(classes, 1):
        color = LABELS[(k - 1) % len(LABELS)]
        legend.append(Patch(facecolor=color, label=name))
        if (here := numbers == k).any():
            _tint(ax, pixels, here, to_rgb(color), 0.6)
            y, x = (np.median(side) for side in np.nonzero(here))
            ax.text(
                x,
                y,
                name,
                ha="center",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.7, "lw": 0},
            )
    _axes_for(ax, pixels, title)
    ax.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return ax.figure


def _tint(
    ax: Axes, pixels: np.ndarray, mask: np.ndarray, color: tuple[float, float, float], alpha: float
) -> None:
    mask = mask.astype(float)
    tint = np.dstack([np.full(mask.shape, channel) for channel in color] + [alpha * mask])
    ax.imshow(tint, extent=_extent(pixels), interpolation="nearest")
    if 0 < mask.mean() < 1:
        for line, width in (("white", 2.4), (color, 1.2)):  # a white rim parts like from like
            ax.contour(mask, [0.5], colors=[line], linewidths=width, extent=_extent(pixels), origin="upper")


def contact_sheet(
    image,
    heats: Mapping[str, Tensor | np.ndarray],
    *,
    label: str = "attention (sum over heads, steps, blocks)",
    columns: int = 4,
    vmax: float | None = None,
    cmap: str = HEAT,
) -> Figure:
    """The image and one panel per word, all on one scale with one colour bar; returns the figure.

        maps = trace.maps("a cat and a car").share
        ov.contact_sheet(image, {word: maps[word] for word in maps.words}, label="share of attention")

    Panels show the maps' own cells, not a smoothed picture of them. `vmax` is the value of the brightest
    colour (the largest value of all maps by default).

    Raises ValueError where there is no map, and as `show` does; TypeError for what is no {word: map}.
    """
    checks.instance("heats", heats, Mapping, "a mapping {word: map}")
    if not heats:
        raise ValueError("A contact sheet needs at least one map: give {word: map}.")
    _check_words(label=label, **{f"heats[{i}]": word for i, word in enumerate(heats)})
    columns = checks.whole("columns", columns, 1, why="count panels")
    pixels = to_pixels(image)
    arrays = {word: to_array(heat) for word, heat in heats.items()}
    low = min(0.0, *(float(heat.min()) for heat in arrays.values()))
    _check_colours(low, vmax, cmap)
    high = max(float(heat.max()) for heat in arrays.values()) if vmax is None else vmax

    columns = min(columns, len(arrays) + 1)
    rows = -(-(len(arrays) + 1) // columns)
    h, w = pixels.shape[:2]
    figure = new_figure(1.7 * columns + 0.7, rows * (1.7 * min(h / w, 2) + 0.3))
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    axes[0].imshow(pixels)
    _axes_for(axes[0], pixels, "image")
    for ax, (word, heat) in zip(axes[1:], arrays.items(), strict=False):
        drawn = ax.imshow(
            heat, extent=_extent(pixels), cmap=cmap, vmin=low, vmax=high, interpolation="nearest"
        )
        _axes_for(ax, pixels, word)
    for ax in axes[len(arrays) + 1 :]:
        ax.set_axis_off()
    figure.colorbar(drawn, ax=list(axes), label=label, shrink=0.9)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that pyplot does not know of, so a notebook shows it once only."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    sign(figure)
    return figure


def to_array(values) -> np.ndarray:
    """A tensor, on any device and with or without gradient, or an array, as an array (h, w) of bool or
    float32."""
    values = checks.tensor("A heat map or mask", values, "(h, w)").detach().cpu()
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"A heat map or mask to draw has the shape (h, w), not {tuple(values.shape)}.")
    if values.dtype == torch.bool:
        return values.numpy()
    return checks.finite("The heat map", values.float()).numpy()


def to_pixels(image) -> np.ndarray:
    """An image as matplotlib takes it: (h, w, 3), uint8 or floats 0 to 1.

    Raises ValueError for another shape and for values that are on another scale.
    """
    if hasattr(image, "convert"):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, Tensor) and not image.dtype.is_complex:
        pixels = (image if image.dtype == torch.uint8 else image.detach().float()).cpu().numpy()
    else:
        try:
            pixels = np.asarray(image)
        except (TypeError, ValueError):  # such as rows of several lengths
            pixels = np.asarray(None)
    if isinstance(image, Tensor) and pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)  # tensors put the channels first
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise ValueError(
            f"An image has the shape (h, w), (h, w, 3) or, as a tensor, (3, h, w), not {pixels.shape} as "
            f"{checks.shown(image)} has."
        )
    if pixels.dtype != np.uint8 and not (pixels.dtype.kind in "bf" and abs(pixels).max() <= BRIGHTEST):
        raise ValueError(
            f"An image holds uint8, or floats 0 to 1, not {checks.shown(pixels)} beyond them: make it uint8 "
            "where it counts to 255."
        )
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    return pixels if pixels.dtype == np.uint8 else pixels.clip(0, 1)


def _check_words(ax: Axes | None = None, **words) -> None:
    """TypeError unless `ax` is an Axes and all others are texts, or None."""
    if ax is not None:
        checks.instance("ax", ax, Axes, "the Axes to draw on")
    for name, word in words.items():
        if word is not None:
            checks.instance(name, word, str, "a text")


def _check_colours(low: float, vmax: float | None, cmap: str) -> None:
    if vmax is not None:
        checks.number("vmax", vmax, low, above=True)
    if not isinstance(cmap, Colormap) and not (isinstance(cmap, str) and cmap in colormaps):
        raise ValueError(f"cmap is the name of a colour map, such as 'viridis', not {checks.shown(cmap)}.")


def _extent(pixels: np.ndarray) -> tuple[float, float, float, float]:
    h, w = pixels.shape[:2]
    return (-0.5, w - 0.5, h - 0.5, -0.5)  # imshow's own frame of an image of this size


def _axes_for(ax: Axes, pixels: np.ndarray, title: str | None) -> None:
    h, w = pixels.shape[:2]
    ax.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5), xticks=[], yticks=[])
    if title is not None:
        ax.set_title(title)
