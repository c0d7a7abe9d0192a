"""Places ask back, in pictures: a sheet of places with their words, and a picture to click on.

The sheet needs matplotlib only. The picture to click on needs anywidget, which runs in JupyterLab, Colab and
VS Code alike.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..images import as_rgb
from ..plumbing import checks
from ..plumbing.asked import as_place
from ..trace import Trace
from .figures import LABELS, new_figure, show, to_pixels


def draw_places(
    trace: Trace,
    image,
    places: Sequence | Mapping[str, object],
    vocabulary: Sequence[str] | None = None,
    *,
    count: int = 8,
    **choices,
) -> Figure:
    """The image with each place marked by a number, and beside it the words that the place attends to most.

        draw_places(trace, image, [(64, 40), (30, 100)], blocks=settings.best)
        draw_places(trace, image, {"on the cat": (64, 40), "the car": mask})

    `places`: pixels (y, x) or masks (h, w), as for `Trace.words_at`, which takes `vocabulary` and `choices`
    (blocks, steps, contrast, …). Bars show the words' share of the attention, on one scale; a line on a bar
    shows the same word's mean over the whole picture, where `contrast` ranks by it.

    Raises ValueError where there is no place, and as `Trace.words_at` does.
    """
    checks.instance("trace", trace, Trace, "a recording (see `ov.record`)")
    pixels = to_pixels(image)
    names = list(places) if isinstance(places, Mapping) else []
    asked = list(places.values()) if names else checks.entries("places", places, "pixels (y, x), or masks")
    if not asked:
        raise ValueError("There is no place to ask: give pixels such as [(64, 40)], or masks.")
    masks = [as_place(place, pixels.shape[:2]) for place in asked]
    found = [trace.words_at(place, vocabulary, count=count, **choices) for place in asked]

    columns = 1 + min(len(found), 3)
    rows = -(-len(found) // (columns - 1))
    figure = new_figure(2.6 * columns, max(2.5, (0.19 * len(found[0]) + 0.5) * rows))
    grid = figure.add_gridspec(rows, columns)
    ax = figure.add_subplot(grid[:, 0])
    show(pixels, ax=ax)
    most = max(value for ranked in found for value in (*ranked.shares, *ranked.usual))
    for i, (mask, ranked) in enumerate(zip(masks, found, strict=True)):
        colour = LABELS[i % len(LABELS)]
        _mark(ax, pixels, mask, i + 1, colour)
        bars = figure.add_subplot(grid[i // (columns - 1), 1 + i % (columns - 1)])
        at = np.arange(len(ranked))
        bars.barh(at, ranked.shares, color=colour, height=0.7)
        for y, mean in zip(at, ranked.usual, strict=False):
            bars.plot([mean, mean], [y - 0.35, y + 0.35], color="black", linewidth=1.2)
        bars.set(xlim=(0, 1.05 * most or 1), yticks=at, yticklabels=ranked.words, xlabel="share of attention")
        bars.set_title(f"{i + 1}: {names[i]}" if names else f"place {i + 1}", fontsize=10)
        bars.tick_params(labelsize=8)
        bars.xaxis.set_major_locator(MaxNLocator(3))
        bars.xaxis.set_major_formatter(PercentFormatter(1.0))
        bars.invert_yaxis()
    return figure


def _mark(ax, pixels: np.ndarray, mask, number: int, colour: str) -> None:
    """A number on a pixel, or on a mask's middle, the mask outlined."""
    h, w = pixels.shape[:2]
    ys, xs = np.nonzero(mask.numpy())
    if 1 < len(ys) < mask.numel():
        ax.contour(
            mask.numpy().astype(float),
            [0.5],
            colors=[colour],
            linewidths=1.5,
            extent=(-0.5, w - 0.5, -0.5, h - 0.5),
        )
    middle = np.abs(ys - ys.mean()) + np.abs(xs - xs.mean())
    y, x = ys[middle.argmin()], xs[middle.argmin()]  # a pixel of the mask, though its mean may lie outside
    scale = h / mask.shape[0], w / mask.shape[1]
    ax.text(
        (x + 0.5) * scale[1] - 0.5,
        (y + 0.5) * scale[0] - 0.5,
        str(number),
        fontsize=8,
        weight="bold",
        ha="center",
        va="center",
        bbox={"boxstyle": "circle", "facecolor": "white", "edgecolor": colour, "lw": 2, "pad": 0.2},
    )


def click_places(trace: Trace, image, vocabulary: Sequence[str] | None = None, *, count: int = 12, **choices):
    """A picture to click on: beside it stand the words that the place attends to most.

        click_places(trace, image, blocks=settings.best, steps=settings.few)

    `vocabulary` and `choices` as for `Trace.words_at`. The first click takes longest. A click is a place of
    the image, not of the UNet's grid; the arrow keys move it. The widget's `place` (y, x) can be set, too.
    Raises ImportError, with the remedy, without anywidget, and all else as `Trace.words_at` does.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise ImportError(
            "Clicking needs anywidget: `pip install anywidget`. Without it, `draw_places` answers for pixels."
        ) from None
    checks.instance("trace", trace, Trace, "a recording (see `ov.record`)")
    picture = as_rgb(image)
    h, w = picture.height, picture.width

    class Places(anywidget.AnyWidget):
        _esm = Path(__file__).parents[1] / "assets" / "places.js"
        picture = traitlets.Unicode().tag(sync=True)  # the image as a data URL
        size = traitlets.List().tag(sync=True)  # h, w
        place = traitlets.List().tag(sync=True)  # y, x
        answer = traitlets.List().tag(sync=True)  # [word, share], best first
        asked = traitlets.Int(0).tag(sync=True)  # how often

        @traitlets.observe("place")
        def _ask(self, change) -> None:
            y, x = (min(max(int(value), 0), side - 1) for value, side in zip(self.place, (h, w), strict=True))
            found = trace.words_at((y, x), vocabulary, count=count, **choices)
            with self.hold_sync():
                self.answer, self.asked = [list(pair) for pair in found], self.asked + 1

    png = io.BytesIO()
    picture.save(png, "PNG")
    url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return Places(picture=url, size=[h, w], place=[h // 2, w // 2])
