"""The files of traces and tokens: safetensors, their tensors by path, the rest as JSON in the header."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from . import checks
from .choose import Block
from .files import existing, whole
from .text import TextEncoder
from .tokens import Token, alike

if TYPE_CHECKING:
    from .trace import Trace

TRACE_FORMAT, TOKENS_FORMAT = "ovamnb trace 1", "ovamnb tokens 1"
BUNDLED_TOKENS = Path(__file__).parent / "assets" / "tokens.safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
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
    trace.model = header.get("model", "")  # these two came later than the format
    trace.image_size = tuple(header.get("image_size") or ()) or None
    check_trace(trace)
    names = file.keys()
    text = {n.removeprefix("text/"): file.get_tensor(n) for n in names if n.startswith("text/")}
    if text:
        TextEncoder.check_files(text)
        trace.text_encoder = text


def check_trace(trace: Trace) -> None:
    """ValueError unless what the header of a trace says fits the shapes of its tensors."""

    def require(right: bool, what: str) -> None:
        if not right:
            raise ValueError(f"its header and its tensors do not fit, in {what}.")

    steps, images = len(trace.steps), checks.whole("images", trace.images, 1)
    numbers = [checks.whole("a step", step, 0) for step in trace.steps]
    require(steps > 0 and numbers == sorted({*numbers}) and len(trace.timesteps) == steps, "the steps")
    for timestep in trace.timesteps:
        checks.number("a timestep", timestep)
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


def save_tokens(tokens: Iterable[Token], path: str | Path) -> None:
    """Write tokens of one model to one safetensors file, for `load_tokens`.

    Raises ValueError for two tokens of the same word and for tokens of several models, which one file cannot
    hold; FileNotFoundError for a folder that is not there, OSError where the disk is full.
    """
    from safetensors.torch import save_file

    tokens = checks.entries("tokens", [tokens] if isinstance(tokens, Token) else tokens, "tokens")
    for token in tokens:
        checks.instance("Each of the tokens", token, Token, "a Token")
    if not tokens:
        raise ValueError("There is no token to save: give at least one.")
    words = [token.word for token in tokens]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ValueError(
            f"Two of these tokens have the same word ({', '.join(twice)}), and a file keeps one of each: "
            "rename one by `dataclasses.replace(token, word=…)`, or save `ovamnb.tokens.average` of them."
        )
    for token in tokens[1:]:
        if len(token.class_) != len(tokens[0].class_) or not alike(token.fingerprint, tokens[0].fingerprint):
            raise ValueError(
                f"The tokens '{words[0]}' and '{token.word}' are of different models: save each model's in a "
                "file of its own."
            )
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
    metadata = {"format": TOKENS_FORMAT, "tokens": json.dumps(header)}
    with whole(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def load_tokens(path: str | Path = BUNDLED_TOKENS) -> dict[str, Token]:
    """Word → Token, from a file; without one, the bundled model's, one for each class it was trained on.

        ov.load_tokens()["cat"]

    Besides what `save_tokens` wrote: any safetensors file of vectors (dim,) or pairs (2, dim), named by their
    words (as the OVAM authors' 20 VOC tokens for Stable Diffusion 1.5), and a NumPy file `.npy` of one such
    array, named by the file. Raises FileNotFoundError where there is no file, and ValueError for one that is
    damaged, holds no tokens, or is a pickle.
    """
    from safetensors import SafetensorError, safe_open

    path = existing(path, "file of tokens")
    if path.suffix in PICKLES:
        raise ValueError(_why_no_pickle(path))
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(
                _why_no_pickle(path) if "pickle" in str(error) else f"'{path}' is damaged: {error}"
            ) from None
        return {path.stem: _bare(path.stem, checks.tensor(f"'{path}'", array, "(dim,) or (2, dim)"))}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if not tensors:
            raise KeyError("it is empty")
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
    except (SafetensorError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
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
