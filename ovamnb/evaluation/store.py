"""What an evaluation leaves on disk: its settings, and the counts of each picture.

folder/settings.json             all that the result depends on; another evaluation's is refused
folder/examples/NAME.json        the counts of one picture
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from ..pipelines import model_name
from ..unet import unet_of


def model_settings(pipe) -> dict:
    """The model and the programs, as far as a result depends on them."""
    return {
        "model": model_name(pipe),
        "weights": weights_mark(pipe),
        "dtype": str(unet_of(pipe).dtype),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}
        | {"python": platform.python_version()},
    }


def weights_mark(pipe) -> str:
    """Twelve letters that tell one UNet's weights from another's."""
    digest = hashlib.sha256()
    for name, values in unet_of(pipe).state_dict().items():
        digest.update(name.encode())
        digest.update(values.flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def write_settings(folder: Path, wanted: dict) -> None:
    """Beside the results; ValueError, saying what differs, where the folder's have other settings."""
    path = folder / "settings.json"
    if path.exists():
        there = json.loads(path.read_text("utf-8"))
        if differ := [name for name in wanted if there.get(name) != wanted[name]]:
            shown = "; ".join(f"{n}: {short(there.get(n))} there, {short(wanted[n])} now" for n in differ)
            raise ValueError(
                f"'{folder}' holds results of other settings ({shown}): give another folder, or "
                "delete that one."
            )
        return
    write(path, wanted)


def short(value) -> str:
    """A value, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def read_counts(path: Path, keys: Collection[str] = ("name", "labels", "tables")) -> dict:
    """What was counted of a picture, with all of `keys`; {} where nothing was, or where the file was damaged,
    which is then counted again."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return found if {*keys} <= found.keys() else {}
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return {}


def write(path: Path, content: dict) -> None:
    """One JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
