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
    from .masks import load_mask, polygon_mask, save_mask
    from .notebook import setup_notebook
    from .optimize import optimize_token
    from .pipelines import load_pipeline
    from .plot import contact_sheet, overlay, show, show_labels
    from .recipe import TokenRecipe
    from .recorder import record
    from .refine import binarize, complete, resize, weigh
    from .segmentation import segment
    from .storage import load_tokens, save_tokens
    from .tokens import Token
    from .trace import Trace

_HOME = {
    "AttentionMaps": "maps",
    "Token": "tokens",
    "TokenRecipe": "recipe",
    "Trace": "trace",
    "binarize": "refine",
    "complete": "refine",
    "contact_sheet": "plot",
    "dense_crf": "crf",
    "load_mask": "masks",
    "load_pipeline": "pipelines",
    "load_tokens": "storage",
    "optimize_token": "optimize",
    "overlay": "plot",
    "polygon_mask": "masks",
    "record": "recorder",
    "record_image": "images",
    "resize": "refine",
    "save_mask": "masks",
    "save_tokens": "storage",
    "segment": "segmentation",
    "setup_notebook": "notebook",
    "show": "plot",
    "show_labels": "plot",
    "weigh": "refine",
}

__all__ = [
    "AttentionMaps",
    "Token",
    "TokenRecipe",
    "Trace",
    "binarize",
    "complete",
    "contact_sheet",
    "dense_crf",
    "load_mask",
    "load_pipeline",
    "load_tokens",
    "optimize_token",
    "overlay",
    "polygon_mask",
    "record",
    "record_image",
    "resize",
    "save_mask",
    "save_tokens",
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
