"""What an evaluation leaves on disk: its settings, and the counts of each picture.

folder/settings.json             all that the results depend on; a run with other settings is refused
folder/tokens.json               a hash of the tokens, once a method has queried with them
folder/examples/NAME.json        the counts of one picture
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from ..pipelines import model_name
from ..plumbing.files import write_text
from ..tokens import Token
from ..unet import unet_of

SETTINGS, TOKENS = "settings.json", "tokens.json"


def model_settings(pipe) -> dict:
    """The model and the library versions that a result depends on."""
    return {
        "model": model_name(pipe),
        "weights": weights_hash(pipe),
        "dtype": str(unet_of(pipe).dtype),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}
        | {"python": platform.python_version()},
    }


def weights_hash(pipe) -> str:
    """A hash of the UNet's weights, of each tensor the first 16: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, values in unet_of(pipe).state_dict().items():
        digest.update(name.encode())
        digest.update(values.flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def parts_hash(pipe) -> str:
    """A hash of what a picture depends on beside the UNet's weights: the other networks, the tokenizers'
    vocabularies, and the scheduler."""
    digest = hashlib.sha256()
    for name, part in sorted(pipe.components.items()):
        digest.update(name.encode())
        if hasattr(part, "state_dict") and part is not unet_of(pipe):
            for key, values in part.state_dict().items():
                digest.update(key.encode())
                digest.update(values.float().cpu().numpy().tobytes())
        elif hasattr(part, "get_vocab"):
            digest.update(json.dumps(sorted(part.get_vocab().items())).encode())
        elif hasattr(part, "betas"):  # a scheduler
            config = {key: value for key, value in part.config.items() if not key.startswith("_")}
            digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:12]


def tokens_hash(tokens: Iterable[Token]) -> str:
    """A hash of the tokens' vectors."""
    digest = hashlib.sha256()
    for token in tokens:
        for vectors in (token.class_, token.background):
            if vectors is not None:
                digest.update(vectors.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def described(keep) -> str:
    """A filter's or a captioner's name and those of its attributes that are numbers or text."""
    attributes = sorted(getattr(keep, "__dict__", {}).items())
    attributes = {name: value for name, value in attributes if isinstance(value, int | float | str)}
    if getattr(keep, "captioner", None) is not None:
        attributes["captioner"] = described(keep.captioner)
    return f"{getattr(keep, '__qualname__', type(keep).__qualname__)} {attributes}"


def differences(folder: Path, wanted: Mapping[str, object], file: str = SETTINGS) -> str:
    """How the settings of the results in a folder differ from `wanted`, in words; "" if they do not."""
    path = folder / file
    if not path.exists():
        return ""
    try:
        there = json.loads(path.read_text("utf-8"))
        differ = [name for name in wanted if there.get(name) != wanted[name]]
    except (ValueError, AttributeError):
        return f"'{path}' is damaged"
    return "; ".join(f"{n}: {short(there.get(n))} there, {short(wanted[n])} now" for n in differ)


def write_settings(folder: Path, wanted: dict, file: str = SETTINGS) -> None:
    """Write the settings beside the results; ValueError, saying what differs, if others are."""
    if differ := differences(folder, wanted, file):
        raise ValueError(
            f"'{folder}' holds results of other settings ({differ}): give another folder, or delete that one."
        )
    if not (folder / file).exists():
        write(folder / file, wanted)


def short(value) -> str:
    """A value, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def read_counts(path: Path, keys: Collection[str] = ("name", "labels", "tables")) -> dict:
    """The counts of a picture, with all of `keys`; {} where there are none or the file is damaged, so that
    the picture is counted again."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return found if {*keys} <= found.keys() else {}
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return {}


def write(path: Path, content: dict) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n", make_folder=True)
