"""The file of a trace: one safetensors file, its tensors by path, the rest as JSON in its header."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .choose import Block

if TYPE_CHECKING:
    from .trace import Trace

FORMAT = "ovamnb trace 1"
SMALL_ENCODER = 64 * 2**20  # bytes: the bundled model's is far below, Stable Diffusion's (246 MB) above


def write_trace(trace: Trace, path: str | Path, text_encoder: bool | None) -> None:
    """Write `trace` to `path`; see `Trace.save`."""
    from safetensors.torch import save_file

    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{Path(path).parent}' to save the trace in.")
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
        "images": trace.images,
        "model": trace.model,
        "image_size": trace.image_size,
    }
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, path, metadata={"format": FORMAT, "trace": json.dumps(header)})


def read_trace(trace: Trace, path: str | Path) -> None:
    """Fill an empty `trace` from `path`; see `Trace.load`."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no trace at '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"'{path}' is no trace that this version of ovamnb can read.")
            header = json.loads(metadata["trace"])
            for name, block in header["blocks"].items():
                trace.blocks[name] = Block(**block | {"grid": tuple(block["grid"])})
                trace.key_weights[name] = file.get_tensor(f"key_weights/{name}")
                for half in header["halves"]:
                    queries = trace.queries.setdefault(half, {})
                    queries[name] = file.get_tensor(f"queries/{half}/{name}")
            for h, w in header["affinities"]:
                trace.affinities[h, w] = file.get_tensor(f"self_attention/{h}x{w}")
            names = file.keys()
            text = [name for name in names if name.startswith("text/")]
            trace.text_encoder = {key.removeprefix("text/"): file.get_tensor(key) for key in text} or None
            trace.steps, trace.timesteps = tuple(header["steps"]), tuple(header["timesteps"])
            trace.images = header["images"]
            trace.model = header.get("model", "")  # these two came later than the format
            trace.image_size = tuple(header.get("image_size") or ()) or None
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{path}' is damaged or no trace: {error}") from None


def _text_files(trace: Trace, wanted: bool | None) -> dict[str, Tensor]:
    encoder = trace.text_encoder
    if encoder is None or wanted is False:
        return {}
    return encoder.pack() if wanted or encoder.nbytes <= SMALL_ENCODER else {}
