"""Annotate an image in the notebook: a brush, an eraser and a polygon. Needs anywidget.

Core ipywidgets has no canvas; anywidget carries a few lines of JavaScript into JupyterLab, Colab and VS Code
alike, without an extension of our own.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images import as_rgb
from ..masks import as_mask, save_mask
from ..plumbing import checks

try:
    import anywidget
    import traitlets
except ImportError:
    raise ImportError(
        "Drawing needs anywidget: `pip install anywidget`. Without it, draw in any paint program and use "
        "`ov.load_mask`, or give corners to `ov.polygon_mask`."
    ) from None

INK = 127  # of 255: what is covered by more than half counts as drawn


class Annotator(anywidget.AnyWidget):
    """Draw where an object is.

        draw = Annotator(image)
        draw                            # the last line of a cell: draw, then go on to the next cell
        draw.mask                       # (h, w) bool
        draw.save("cat.png")

    `radius`: of the brush, in pixels. Raises ValueError for an image that cannot be shown, and, from `mask`
    and `save`, while nothing is drawn.
    """

    _esm = Path(__file__).parents[1] / "assets" / "annotate.js"
    picture = traitlets.Unicode().tag(sync=True)  # the image as a data URL
    size = traitlets.List().tag(sync=True)  # h, w
    radius = traitlets.Float(4.0).tag(sync=True)
    drawn = traitlets.Unicode().tag(sync=True)  # the drawing as a data URL, transparent where nothing is

    def __init__(self, image, **options) -> None:
        image = as_rgb(image)
        if "radius" in options:
            checks.number("radius", options["radius"], 0, 1e4, above=True)
        png = io.BytesIO()
        image.save(png, "PNG")
        url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
        super().__init__(picture=url, size=[image.height, image.width], **options)

    def __repr__(self) -> str:
        h, w = self.size
        return f"Annotator(an image of {h}×{w}, {'drawn on' if self.drawn else 'nothing drawn yet'})"

    @property
    def mask(self) -> Tensor:
        """What is drawn so far: (h, w) bool."""
        if not self.drawn:
            raise ValueError("Nothing is drawn yet: draw on the image, then run this cell.")
        with Image.open(io.BytesIO(base64.b64decode(self.drawn.partition(",")[2]))) as png:
            return as_mask(torch.from_numpy(np.array(png.getchannel("A")) > INK))

    def save(self, path: str | Path) -> None:
        """Write the mask as a PNG image, for `ov.load_mask`; raises as `ov.save_mask` does."""
        save_mask(self.mask, path)
