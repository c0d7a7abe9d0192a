"""The file of a trace: safetensors, its tensors by path, the rest as JSON in the header."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .plumbing import checks
from .plumbing.files import existing, whole
from .select import Block
from .text_file import check_files

if TYPE_CHECKING:
    from .trace import Trace

TRACE_FORMAT = "ovamnb trace 1"
SMALL_ENCODER = 64 * 2**20  # bytes: the bundled model's is far below, Stable Diffusion's (246 MB) above


def write_trace(trace: Trace, path: str | Path, text_encoder: bool | None) -> None:
    """Write `trace` to `path`; see `Trace.save`."""
    from safetensors.torch import save_file

    tensors = {f"key_weights/{name}": weight for name, weight in trace.key_weights.items()}
    for half, queries in trace.queries.items():
        tensors |= {f"queries/{half}/{name}": query for name, query in queries.items()}
    tensors |= {f"self_attention/{h}x{w}": value for (h, w), value in trace.affinities.items()}
    tensors |= {f"text/{name}": content for name, content in _text_files(trace, text_encoder).items()}
    header = {
        "blocks": {name: asdict(block) for name, block in trace.blocks.items()},
        "halves": list(trace.queries),
        "affinities": list(trace.affinities),
        "steps": trace.steps,
        "timesteps": trace.timesteps,
        "passes": trace.passes,
        "images": trace.images,
        "model": trace.model,
        "image_size": trace.image_size,
    }
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    with whole(path) as partial:
        save_file(tensors, partial, metadata={"format": TRACE_FORMAT, "trace": json.dumps(header)})


def read_trace(trace: Trace, path: str | Path) -> None:
    """Fill an empty `trace` from `path`; see `Trace.load`."""
    from safetensors import SafetensorError, safe_open

    path = existing(path, "trace")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if known := metadata.get("format") == TRACE_FORMAT:
                _fill(trace, json.loads(metadata["trace"]), file)
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged or no trace: {error}") from None
    if not known:
        raise ValueError(f"'{path}' is no trace that this version of ovamnb can read.")


def _fill(trace: Trace, header: dict, file) -> None:
    for name, block in header["blocks"].items():
        trace.blocks[name] = Block(**block | {"grid": tuple(block["grid"])})
        trace.key_weights[name] = file.get_tensor(f"key_weights/{name}")
        for half in header["halves"]:
            queries = trace.queries.setdefault(half, {})
            queries[name] = file.get_tensor(f"queries/{half}/{name}")
    for h, w in header["affinities"]:
        trace.affinities[h, w] = file.get_tensor(f"self_attention/{h}x{w}")
    trace.steps, trace.timesteps = tuple(header["steps"]), tuple(header["timesteps"])
    trace.images = header["images"]
    trace.passes = header.get("passes", 0)  # these three came later than the format
    trace.model = header.get("model", "")
    trace.image_size = tuple(header.get("image_size") or ()) or None
    check_trace(trace)
    names = file.keys()
    text = {n.removeprefix("text/"): file.get_tensor(n) for n in names if n.startswith("text/")}
    if text:
        check_files(text)
        trace.text_encoder = text


def check_trace(trace: Trace) -> None:
    """ValueError unless a trace's header fits the shapes of its tensors."""

    def require(right: bool, what: str) -> None:
        if not right:
            raise ValueError(f"its header and its tensors do not fit, in {what}.")

    steps, images = len(trace.steps), checks.whole("images", trace.images, 1)
    numbers = [checks.whole("a step", step, 0) for step in trace.steps]
    require(steps > 0 and numbers == sorted({*numbers}) and len(trace.timesteps) == steps, "the steps")
    for timestep in trace.timesteps:
        checks.number("a timestep", timestep)
    passes = checks.whole("passes", trace.passes, 0)
    require(not passes or numbers[-1] < passes, "the number of passes")
    require(isinstance(trace.model, str), "the model's name")
    if trace.image_size is not None:
        checks.size(trace.image_size)
    require({*trace.queries} <= {"conditional", "unconditional"}, "the halves of the queries")
    dims = {weight.shape[0] for weight in trace.key_weights.values()}
    require(len(dims) <= 1, "the key weights")
    for name, block in trace.blocks.items():
        (h, w), heads = checks.size(block.grid), checks.whole("heads", block.heads, 1)
        checks.number("scale", block.scale)
        weight = trace.key_weights[name]
        require(weight.ndim == 2 and weight.shape[0] > 1 and weight.shape[1] % heads == 0, name)
        for half, queries in trace.queries.items():
            shape = (steps, images, h * w, weight.shape[1])
            require(
                tuple(queries[name].shape) == shape and queries[name].is_floating_point(), f"{half} {name}"
            )
    for (h, w), affinity in trace.affinities.items():
        require(tuple(affinity.shape) == (images, h * w, h * w), f"the self-attention of {h}×{w}")


def _text_files(trace: Trace, wanted: bool | None) -> dict[str, Tensor]:
    encoder = trace.text_encoder
    if encoder is None or wanted is False:
        return {}
    return encoder.pack() if wanted or encoder.nbytes <= SMALL_ENCODER else {}
