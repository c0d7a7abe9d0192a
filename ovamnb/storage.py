"""The files of traces and tokens: safetensors, their tensors by path, the rest as JSON in the header."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .choose import Block
from .tokens import Token

if TYPE_CHECKING:
    from .trace import Trace

TRACE_FORMAT, TOKENS_FORMAT = "ovamnb trace 1", "ovamnb tokens 1"
BUNDLED_TOKENS = Path(__file__).parent / "assets" / "tokens.safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
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
    save_file(tensors, path, metadata={"format": TRACE_FORMAT, "trace": json.dumps(header)})


def read_trace(trace: Trace, path: str | Path) -> None:
    """Fill an empty `trace` from `path`; see `Trace.load`."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no trace at '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != TRACE_FORMAT:
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


def save_tokens(tokens: Iterable[Token], path: str | Path) -> None:
    """Write tokens of one model to one safetensors file, for `load_tokens`."""
    from safetensors.torch import save_file

    tokens = list(tokens)
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{Path(path).parent}' to save tokens in.")
    tensors, header = {}, {}
    for token in tokens:
        tensors[f"class/{token.word}"] = token.class_
        if token.background is not None:
            tensors[f"background/{token.word}"] = token.background
        header[token.word] = {
            "model": token.model,
            "settings": dict(token.settings),
            "losses": [round(loss, 5) for loss in token.losses],
        }
        tensors |= {f"fingerprint/{name}": values for name, values in token.fingerprint.items()}
    tensors = {name: value.detach().cpu().float().contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, path, metadata={"format": TOKENS_FORMAT, "tokens": json.dumps(header)})


def load_tokens(path: str | Path = BUNDLED_TOKENS) -> dict[str, Token]:
    """Word → Token, from a file; without one, the bundled model's, one for each class it was trained on.

        ov.load_tokens()["cat"]

    Besides what `save_tokens` wrote: any safetensors file of vectors (dim,) or pairs (2, dim), named by their
    words (as the OVAM authors' 20 VOC tokens for Stable Diffusion 1.5), and a NumPy file `.npy` of one such
    array, named by the file. Raises FileNotFoundError where there is no file, and ValueError for one that is
    damaged, holds no tokens, or is a pickle.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of tokens at '{path}'.")
    if path.suffix in PICKLES:
        raise ValueError(_why_no_pickle(path))
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ValueError(
                _why_no_pickle(path) if "pickle" in str(error) else f"'{path}' is damaged: {error}"
            ) from None
        return {path.stem: _bare(path.stem, torch.from_numpy(np.asarray(array)))}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if metadata.get("format") != TOKENS_FORMAT:
            return {
                name.replace("-", " "): _bare(name.replace("-", " "), value)
                for name, value in tensors.items()
            }
        marks = {
            k.removeprefix("fingerprint/"): v for k, v in tensors.items() if k.startswith("fingerprint/")
        }
        return {
            word: Token(
                word,
                tensors[f"class/{word}"],
                tensors.get(f"background/{word}"),
                said["model"],
                marks,
                tuple(said["losses"]),
                said["settings"],
            )
            for word, said in json.loads(metadata["tokens"]).items()
        }
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{path}' is damaged or holds no tokens: {error}") from None


def _bare(word: str, array: Tensor) -> Token:
    """A token from a vector (dim,) or a pair (2, dim) of unknown origin."""
    array = array.float()
    if array.ndim == 1 and len(array) > 1:
        return Token(word, array)
    if array.ndim == 2 and len(array) == 2:
        return Token(word, array[1], array[:1])
    raise ValueError(
        f"A token is a vector (dim,) or a pair (2, dim), but '{word}' has the shape {tuple(array.shape)}."
    )


def _why_no_pickle(path: Path) -> str:
    return (
        f"'{path}' is a pickle, which can run any code when it is opened, so it is not read. Whoever trusts "
        "it can save its vectors anew: `safetensors.numpy.save_file({'cat': vector}, 'tokens.safetensors')`."
    )
