"""The file of tokens: safetensors, tensors by kind and word, the rest as JSON in the header; and the plain
vectors that other projects keep in files.

A token is here a mapping of the fields of `tokens.Token`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from .plumbing import checks
from .plumbing.files import existing, whole

TOKENS_FORMAT = "ovamnb tokens 1"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")


def write_tokens(tokens: Sequence[Mapping], path: str | Path) -> None:
    """Write tokens of one model, each with a word of its own, to `path`; see `tokens.save_tokens`."""
    from safetensors.torch import save_file

    tensors, header = {}, {}
    for token in tokens:
        word = token["word"]
        tensors[f"class/{word}"] = token["class_"]
        if token["background"] is not None:
            tensors[f"background/{word}"] = token["background"]
        header[word] = {
            "model": token["model"],
            "settings": dict(token["settings"]),
            "losses": [round(loss, 5) for loss in token["losses"]],
        }
        tensors |= {f"fingerprint/{name}": values for name, values in token["fingerprint"].items()}
    tensors = {name: value.detach().cpu().float().contiguous().clone() for name, value in tensors.items()}
    with whole(path) as partial:
        save_file(tensors, partial, metadata={"format": TOKENS_FORMAT, "tokens": json.dumps(header)})


def read_tokens(path: str | Path) -> list[dict]:
    """The tokens in `path`; see `tokens.load_tokens`."""
    path = existing(path, "file of tokens")
    if path.suffix in PICKLES:
        raise ValueError(_why_no_pickle(path))
    if path.suffix == ".npy":
        return [_plain(path.stem, _read_array(path))]
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if not tensors:
            raise KeyError("it is empty")
        if metadata.get("format") != TOKENS_FORMAT:
            return [_plain(name.replace("-", " "), value) for name, value in tensors.items()]
        return _ours(json.loads(metadata["tokens"]), tensors)
    except (SafetensorError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{path}' is damaged or holds no tokens: {error}") from None


def _ours(header: dict, tensors: Mapping[str, Tensor]) -> list[dict]:
    prefix = "fingerprint/"
    fingerprint = {
        name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
    }
    return [
        {
            "word": word,
            "class_": tensors[f"class/{word}"],
            "background": tensors.get(f"background/{word}"),
            "model": entry["model"],
            "fingerprint": fingerprint,
            "losses": tuple(entry["losses"]),
            "settings": entry["settings"],
        }
        for word, entry in header.items()
    ]


def _plain(word: str, array: Tensor) -> dict:
    """A token from a vector (dim,) or a pair (2, dim), start and class, of an unknown model."""
    array = array.float()
    if array.ndim == 1 and len(array) > 1:
        return {"word": word, "class_": array}
    if array.ndim == 2 and len(array) == 2:
        return {"word": word, "class_": array[1], "background": array[:1]}
    raise ValueError(
        f"A token is a vector (dim,) or a pair (2, dim), but '{word}' has the shape {tuple(array.shape)}."
    )


def _read_array(path: Path) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        why = _why_no_pickle(path) if "pickle" in str(error) else f"'{path}' is damaged: {error}"
        raise ValueError(why) from None
    return checks.tensor(f"'{path}'", array, "(dim,) or (2, dim)")


def _why_no_pickle(path: Path) -> str:
    return (
        f"'{path}' is a pickle, which can run any code when it is opened, so it is not read. Whoever trusts "
        "it can save its vectors anew: `safetensors.numpy.save_file({'cat': vector}, 'tokens.safetensors')`."
    )
