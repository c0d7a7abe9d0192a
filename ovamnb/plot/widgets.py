"""Widgets for the notebooks: thin controls over pure functions that draw. Needs ipywidgets 7 or 8."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from ..images import as_rgb
from ..plumbing import checks
from ..refine import as_affinity, grid_like
from ..segmentation import segment
from ..trace import Trace
from ..unet import require_parts
from .figures import contact_sheet, new_figure, show, show_labels, to_array, to_pixels

LITTLE = {"a", "an", "the", "of", "on", "in", "at", "by", "and", "with", "photograph", "picture"}

LARGEST = 768  # pixels each way of an uploaded image: more would not be visible


def draw_answer(trace: Trace, image, text: str) -> Figure:
    """The image and one panel per word of `text`, small words left out unless there is nothing else.

    A pure function of a recording: no image is generated again. Raises ValueError for a text that cannot
    be read, as `Trace.maps` does.
    """
    checks.instance("trace", trace, Trace, "a recording (see `ov.record`)")
    checks.instance("text", text, str, "a text")
    maps = trace.maps(text).share
    telling = [word for word in maps.words if word.lower() not in LITTLE] or list(maps.words)
    return contact_sheet(image, {word: maps[word] for word in telling}, label="share of attention", columns=5)


def ask_box(trace: Trace, image, text: str = "a photograph of a kitten"):
    """A text box over a recording: type a text, press Enter, see where its words are.

        ask_box(trace, image)

    For a text that cannot be encoded it shows the error, and the last picture stays.
    """
    import ipywidgets

    checks.instance("text", text, str, "a text")
    box = ipywidgets.Text(value=text, description="ask for", continuous_update=False)
    # At its own size: a box stretches its children over the whole width.
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start", "max_width": "100%"})
    message = ipywidgets.HTML()

    def answer(*_) -> None:
        try:
            figure = draw_answer(trace, image, box.value)
        except ValueError as error:
            message.value = f"<b>{html.escape(str(error))}</b>"
            return
        picture.value, message.value = as_png(figure), ""

    box.observe(answer, "value")
    answer()
    return ipywidgets.VBox([box, message, picture])


def draw_rows(
    affinity: Tensor, image, places: Sequence[tuple[int, int]] | Mapping[str, tuple[int, int]]
) -> Figure:
    """The image and, for each pixel (y, x) of `places` on the affinity's grid, what it attends to.

        draw_rows(trace.self_attention(32), image, [(8, 8), (24, 8)])
        draw_rows(trace.self_attention(32), image, {"cat": (8, 8)})

    `affinity` (h·w, h·w), whose grid has the image's proportions. All panels share one scale, up to what all
    but a few cells reach; its colours follow the square root, so that faint attention shows, too. A ring
    marks the pixel.

    Raises ValueError for an affinity of another image and for a place outside its grid.
    """
    pixels = to_pixels(image)
    affinity = as_affinity(affinity)
    h, w = grid_like(pixels.shape[:2], len(affinity))
    names = [f"{name}, " for name in places] if isinstance(places, Mapping) else []
    places = list(places.values()) if isinstance(places, Mapping) else places
    places = [_place(place, h, w) for place in checks.entries("places", places, "pixels (y, x)")]
    names = names or [""] * len(places)
    rows = [to_array(affinity[y * w + x].unflatten(0, (h, w))) for y, x in places]
    high = max((float(np.quantile(row, 0.995)) for row in rows), default=None)
    figure = new_figure(2.0 * (len(places) + 1), 2.0 * min(pixels.shape[0] / pixels.shape[1], 2) + 0.4)
    axes = figure.subplots(1, len(places) + 1, squeeze=False)[0]
    show(pixels, ax=axes[0], title="image")
    for ax, row, name, (y, x) in zip(axes[1:], rows, names, places, strict=True):
        drawn = ax.imshow(row, cmap="viridis", norm=PowerNorm(0.5, 0, high), interpolation="nearest")
        for color, width in (("black", 3.5), ("white", 1.5)):  # visible on dark and on bright cells
            ax.plot(x, y, "o", markersize=8, markerfacecolor="none", markeredgecolor=color, mew=width)
        ax.set(xticks=[], yticks=[], title=f"from {name}({y}, {x})")
    if rows:
        figure.colorbar(drawn, ax=list(axes), label="share of attention", shrink=0.8, extend="max")
    return figure


def _place(place, h: int, w: int) -> tuple[int, int]:
    pair = checks.entries("Each of the places", place, "two numbers (y, x)")
    if len(pair) != 2:
        raise ValueError(f"A place is (y, x), two whole numbers, not {checks.shown(place)}.")
    return checks.whole("y", pair[0], 0, h - 1), checks.whole("x", pair[1], 0, w - 1)


def row_explorer(affinity: Tensor, image):
    """Two sliders over a recording: choose a pixel, see what it attends to.

    row_explorer(trace.self_attention(32), image)
    """
    import ipywidgets

    affinity = as_affinity(affinity)
    h, w = grid_like(to_pixels(image).shape[:2], len(affinity))
    y = ipywidgets.IntSlider(value=h // 2, max=h - 1, description="row", continuous_update=False)
    x = ipywidgets.IntSlider(value=w // 2, max=w - 1, description="column", continuous_update=False)
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start", "max_width": "100%"})

    def answer(*_) -> None:
        picture.value = as_png(draw_rows(affinity, image, [(y.value, x.value)]))

    for slider in (y, x):
        slider.observe(answer, "value")
    answer()
    return ipywidgets.VBox([y, x, picture])


def draw_segmentation(pipe, image, names: str) -> Figure:
    """An image segmented into the classes that `names` lists, separated by commas.

    Raises ValueError for an image or a class that cannot be used, as `segment` does.
    """
    checks.instance("names", names, str, "class names in one text, with commas")
    result = segment(pipe, image, [name.strip() for name in names.split(",") if name.strip()])
    return show_labels(image, result.labels, result.classes)


def segment_box(pipe, names: str = "cat, car"):
    """A button to upload an image and a line of class names: shows the image segmented into them.

        segment_box(pipe, "cat, sofa")

    For an image or a class that cannot be used it shows the error, and the last picture stays.
    """
    import ipywidgets

    require_parts(pipe)
    checks.instance("names", names, str, "class names in one text, with commas")
    upload = ipywidgets.FileUpload(accept="image/*", description="image")
    line = ipywidgets.Text(value=names, description="classes", continuous_update=False)
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start", "max_width": "100%"})
    message = ipywidgets.HTML("Choose an image.")

    def answer(*_) -> None:
        if not upload.value:
            return
        try:
            image = read_image(latest_file(upload.value))
            image.thumbnail((LARGEST, LARGEST))
            picture.value, message.value = as_png(draw_segmentation(pipe, image, line.value)), ""
        except (ValueError, KeyError) as error:
            reason = error.args[0] if isinstance(error, KeyError) else error  # a KeyError's str has quotes
            message.value = f"<b>{html.escape(str(reason))}</b>"

    upload.observe(answer, "value")
    line.observe(answer, "value")
    return ipywidgets.VBox([upload, line, message, picture])


def read_image(content: bytes) -> Image.Image:
    """The image in a file, the right way up; ValueError for a file that is damaged, too large or no image."""
    try:
        image = Image.open(io.BytesIO(content))
        image = ImageOps.exif_transpose(image)  # telephones say in the file which way is up
    except Exception as error:  # Pillow's decoders raise errors of many classes
        raise ValueError(f"This file is damaged or no image ({error}): choose another.") from None
    return as_rgb(image)


def latest_file(value) -> bytes:
    """What was uploaded last: ipywidgets 7 (Colab) holds {name: file}, ipywidgets 8 a tuple of files."""
    files = value.values() if isinstance(value, dict) else value
    return bytes(list(files)[-1]["content"])


def as_png(figure: Figure) -> bytes:
    """What an `ipywidgets.Image` shows."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
