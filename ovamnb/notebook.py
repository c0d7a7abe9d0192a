"""The first cell of every notebook."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .models import DRAWINGS, Drawing, drawing_of
from .plumbing import checks

SIGNED = ""  # what every figure says in its corner, once a notebook is set up
STYLE = {
    "figure.hooks": ["ovamnb.notebook:sign"],  # pyplot calls it with each new figure
    "figure.dpi": 90,
    "savefig.dpi": 90,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Settings:
    """What a notebook runs with: a model's name for `ov.load_pipeline`, the device's kind, and how this model
    draws, so that no cell has to say it (see `ovamnb.models.Drawing`)."""

    model: str
    device: str

    @property
    def drawing(self) -> Drawing:
        """All that is known of how the model draws."""
        return drawing_of(self.model)

    steps = property(lambda self: self.drawing.steps, doc="of denoising")
    guidance = property(lambda self: self.drawing.guidance, doc="scale")
    size = property(lambda self: self.drawing.size, doc="(h, w) of a picture in pixels")
    finest = property(lambda self: self.drawing.finest, doc="longer side of the finest grid of attention")
    best = property(lambda self: self.drawing.best, doc="blocks whose maps serve best; None: all but the mid")
    few = property(lambda self: self.drawing.few, doc="steps that serve nearly as well as all")
    bundled = property(lambda self: self.model == "bundled", doc="whether it is the course's own model")

    def claim(self, holds, sentence: str) -> None:
        """Check what the course says of its own model; of another one, print whether it is so there, too.

            settings.claim(iou > 0.5, "the map finds the cat")

        Raises AssertionError, with the sentence, where it does not hold for the bundled model.
        """
        if self.bundled:
            assert holds, sentence
        else:
            print(f"{'so it is' if holds else 'not so'} with this model: {sentence}")

    def only_bundled(self, what: str) -> bool:
        """Whether this is the course's own model; where not, a line says that `what` is skipped.

        if settings.only_bundled("the bundled tokens"):
            tokens = ov.load_tokens()
        """
        if not self.bundled:
            print(f"skipped, since it belongs to the bundled model alone: {what}")
        return self.bundled

    @staticmethod
    def sign(figure, origin: str) -> None:
        """Say in a figure's corner that it shows something else than this notebook's model: see `sign`."""
        sign(figure, origin)

    def __str__(self) -> str:
        return f"ovamnb ready · model: {self.model} · device: {self.device}"

    def _ipython_display_(self) -> None:
        """Shows nothing: as the last line of a cell it would repeat what `setup_notebook` printed."""


def sign(figure, origin: str | None = None) -> None:
    """Name the model in the corner of a figure: a picture is often seen without its notebook. `origin`: what
    it shows instead, where that is not this notebook's model, such as stored results; "" for nothing."""
    if SIGNED:
        figure.supxlabel(SIGNED if origin is None else origin, x=0.005, ha="left", fontsize=6, color="0.5")


def setup_notebook(model: str | Path | None = None) -> Settings:
    """Prepare a notebook and print one line that says with which model and device it runs.

        import ovamnb as ov
        settings = ov.setup_notebook()                 # or ov.setup_notebook(model="sd15")
        pipe = ov.load_pipeline(settings.model)
        image = pipe(prompt, num_inference_steps=settings.steps, guidance_scale=settings.guidance).images[0]

    `model`: a name that `ov.load_pipeline` takes; None takes the environment variable OVAMNB_MODEL, or else
    the bundled one. Figures become small PNGs in one style and name the model, warnings and loading bars of
    diffusers and transformers are switched off, and PyTorch takes no more threads than the CPUs that a shared
    server grants (CPU_LIMIT). No seed is set: notebooks name theirs where they use it.

    Raises TypeError for a model that is no name. Whether there is such a model, `ov.load_pipeline` says.
    """
    import matplotlib
    import torch

    from .pipelines import find_device, silence

    if model is not None:
        checks.instance("model", model, str | Path, "the name of a model, or a folder")
    chosen = str(model or os.environ.get("OVAMNB_MODEL") or "bundled")
    silence()
    matplotlib.rcParams.update(STYLE)
    try:
        from IPython import get_ipython

        if (shell := get_ipython()) is not None:
            shell.run_line_magic("matplotlib", "inline")
    except (ImportError, NotImplementedError):  # a script, perhaps with a shell that has no screen
        pass
    if limit := os.environ.get("CPU_LIMIT"):  # on Binder the machine has more CPUs than it lends
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(float(limit)))))

    settings = Settings(chosen, find_device().type)
    global SIGNED
    SIGNED = f"model: {Path(chosen).name if Path(chosen).is_dir() else chosen}"
    print(settings)
    if chosen not in DRAWINGS:
        guess = f"{settings.steps} steps, guidance {settings.guidance:g}"
        print(f"settings of this model are not known, so guessed: {guess}; a settings.json beside it may say")
    return settings
