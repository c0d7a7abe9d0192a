"""Tokens that others have published, fetched once and read without running anything of theirs."""

from __future__ import annotations

import hashlib
import os
import pickletools
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Published:
    """A file at a pinned commit, its SHA-256, and the model that its vectors belong to."""

    url: str
    sha256: str
    model: str


PUBLISHED = {
    # The OVAM authors' tokens of Pascal VOC's 20 classes, with which their paper was evaluated (MIT licence).
    "voc-sd15": Published(
        "https://raw.githubusercontent.com/vpulab/ovam/12afd87cacb2c154681da58635b75cf9451db406/docs/assets/"
        "tokens_VOC.npy",
        "532f05423bedaf3c2c227bfdbedab0746bccf5e52e6f7f007cda097a322a51cc",
        "sd15",
    )
}
DTYPES = ("f4", "<", "|", "O8", "=", "f", "O")  # the strings of a pickled array that name no vector


def read_published(name: str) -> list[dict]:
    """The tokens of a name in `PUBLISHED`, as fields of `tokens.Token`; see `tokens.load_tokens`."""
    source = PUBLISHED[name]
    content = fetched(source).read_bytes()
    return [
        {"word": word.replace("-", " "), "class_": vector, "model": source.model}
        for word, vector in vectors_in(content).items()
    ]


def fetched(source: Published) -> Path:
    """The file, in PyTorch's cache of downloads; FileNotFoundError, saying how to get it, where that fails,
    and ValueError where it is not the one that was published."""
    path = Path(torch.hub.get_dir(), "ovamnb", source.sha256[:16])
    if not path.is_file():
        try:
            if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
                raise OSError("HF_HUB_OFFLINE is set")
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(source.url, str(path), source.sha256, progress=False)
        except RuntimeError:  # the hash is another one
            raise ValueError(f"The file at {source.url} is not the one that was published.") from None
        except (OSError, HTTPException) as error:
            raise FileNotFoundError(
                f"These tokens are not on this machine and cannot be fetched ({error}): bring the file\n"
                f"{source.url}\nhere as '{path}'."
            ) from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise ValueError(f"'{path}' is not the file at {source.url}: delete it, and it is fetched again.")
    return path


def vectors_in(content: bytes) -> dict[str, Tensor]:
    """{word: vector (dim,)} of a dictionary of float32 arrays, pickled in a NumPy file.

    Opening a pickle runs whatever it says. `pickletools` only lists what stands in it: a word, then the bytes
    of its array.
    """
    head = 10 + int.from_bytes(content[8:10], "little")  # of a NumPy file, version 1
    found, word = {}, ""
    for code, value, _ in pickletools.genops(content[head:]):
        if "UNICODE" in code.name and value not in DTYPES:
            word = value
        elif "BYTES" in code.name and len(value) > 4 and len(value) % 4 == 0:
            found[word] = torch.from_numpy(np.frombuffer(value, "<f4").copy())
    return found
