"""The first cell of every notebook."""

from __future__ import annotations

import os
from dataclasses import dataclass

STYLE = {
    "figure.dpi": 90,
    "savefig.dpi": 90,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Settings:
    """What a notebook runs with: the model's name for `ov.load_pipeline`, and the device's kind."""

    model: str
    device: str

    def __str__(self) -> str:
        return f"ovamnb ready · model: {self.model} · device: {self.device}"

    def _ipython_display_(self) -> None:
        """Shows nothing: as the last line of a cell it would repeat what `setup_notebook` printed."""


def setup_notebook() -> Settings:
    """Prepare a notebook and print one line that says with which model and device it runs.

        import ovamnb as ov
        settings = ov.setup_notebook()
        pipe = ov.load_pipeline(settings.model)

    The environment variable OVAMNB_MODEL names another model ("sd15", a folder, a hub id) than the bundled
    one. Figures become small PNGs in one style, warnings and loading bars of diffusers and transformers are
    switched off, and PyTorch takes no more threads than the CPUs that a shared server grants (CPU_LIMIT).
    No seed is set: notebooks name theirs where they use it.
    """
    import matplotlib
    import torch

    from .pipelines import find_device, silence

    silence()
    matplotlib.rcParams.update(STYLE)
    try:
        from IPython import get_ipython

        if (shell := get_ipython()) is not None:
            shell.run_line_magic("matplotlib", "inline")
    except ImportError:  # a script that borrows the settings
        pass
    if limit := os.environ.get("CPU_LIMIT"):  # on Binder the machine has more CPUs than it lends
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(float(limit)))))

    settings = Settings(os.environ.get("OVAMNB_MODEL") or "bundled", find_device().type)
    print(settings)
    return settings
