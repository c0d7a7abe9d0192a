"""How a text-to-image diffusion model knows where things are.

import ovamnb as ov

pipe = ov.load_pipeline()
with ov.record(pipe, self_attention=(32,)) as trace:
    image = pipe("a cat and a car on grass").images[0]

maps = trace.maps("a kitten on grass")              # any words, not only the prompt's
fine = ov.complete(maps["kitten"], trace.self_attention(32))
mask = ov.binarize(ov.resize(fine, image), threshold=0.4)
ov.show(image, mask)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .crf import dense_crf
    from .images import record_image
    from .maps import AttentionMaps
    from .notebook import setup_notebook
    from .pipelines import load_pipeline
    from .plot import contact_sheet, overlay, show, show_labels
    from .recorder import record
    from .refine import binarize, complete, resize, weigh
    from .segmentation import segment
    from .trace import Trace

_HOME = {
    "AttentionMaps": "maps",
    "Trace": "trace",
    "binarize": "refine",
    "complete": "refine",
    "contact_sheet": "plot",
    "dense_crf": "crf",
    "load_pipeline": "pipelines",
    "overlay": "plot",
    "record": "recorder",
    "record_image": "images",
    "resize": "refine",
    "segment": "segmentation",
    "setup_notebook": "notebook",
    "show": "plot",
    "show_labels": "plot",
    "weigh": "refine",
}

__all__ = [
    "AttentionMaps",
    "Trace",
    "binarize",
    "complete",
    "contact_sheet",
    "dense_crf",
    "load_pipeline",
    "overlay",
    "record",
    "record_image",
    "resize",
    "segment",
    "setup_notebook",
    "show",
    "show_labels",
    "weigh",
]


def __getattr__(name: str):
    # PyTorch takes seconds to import: `import ovamnb` waits until a name is used.
    if name not in _HOME:
        raise AttributeError(f"module 'ovamnb' has no attribute '{name}'")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
