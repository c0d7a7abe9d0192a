"""The text side of a pipeline in a trace's file: the files of its tokenizers and text encoders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from .pipelines import quiet
from .plumbing import checks

PARTS = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")


def pack_parts(parts: Mapping[str, object]) -> dict[str, Tensor]:
    """All files of tokenizers and text encoders as bytes: {relative path: uint8 (byte,)}."""
    with TemporaryDirectory() as folder, quiet():
        try:
            for name, part in parts.items():
                part.save_pretrained(Path(folder, name))
        except Exception as error:  # a full disk is a bare Exception to tokenizers
            raise OSError(
                f"The text side could not be written to the temporary folder '{folder}' ({error}): make "
                "room there, or save with text_encoder=False."
            ) from None
        files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
        return {
            path.relative_to(folder).as_posix(): torch.frombuffer(
                bytearray(path.read_bytes()), dtype=torch.uint8
            )
            for path in files
        }


def unpack_parts(files: Mapping[str, Tensor], build: Callable):
    """What `build` makes of the parts in packed files, by their names in PARTS: weights are read
    from safetensors only, and no code from the files.

    Raises ValueError for files that are damaged or not those of a text side.
    """
    with TemporaryDirectory() as folder, quiet():
        for name, content in files.items():
            path = Path(folder, name).resolve()
            if Path(folder).resolve() not in path.parents:
                raise ValueError(f"'{name}' is no file of a text encoder.")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.numpy().tobytes())
            except OSError as error:
                raise OSError(
                    f"The text side could not be unpacked in the temporary folder '{folder}' "
                    f"({error.strerror}): make room there."
                ) from None
        try:
            return build(
                **{name: _load_part(Path(folder, name)) for name in PARTS if Path(folder, name).is_dir()}
            )
        except Exception as error:  # transformers, tokenizers and safetensors have many classes of them
            raise ValueError(
                f"The text side of this trace is damaged ({type(error).__name__}: "
                f"{' '.join(str(error).split())}): load it as `Trace.load(path, pipe)`."
            ) from None


def check_files(files: Mapping[str, Tensor]) -> None:
    """ValueError for packed files that `unpack_parts` would refuse, as far as shows without loading them."""
    from safetensors import SafetensorError, deserialize

    folders = {name.partition("/")[0] for name in files}
    if not folders <= {*PARTS} or not any(name.startswith("text_encoder") for name in folders):
        raise ValueError(f"its text side has the parts {', '.join(sorted(folders))}")
    for name, content in files.items():
        if content.dtype != torch.uint8 or content.ndim != 1:
            raise ValueError(f"its text side holds no file '{name}', but {checks.shown(content)}")
        try:
            if name.endswith(".json"):
                json.loads(content.numpy().tobytes())
            elif name.endswith(".safetensors"):
                deserialize(content.numpy().tobytes())
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"the file '{name}' of its text side cannot be read: {error}") from None


def _load_part(folder: Path):
    import transformers

    if not (folder / "config.json").is_file():
        return transformers.AutoTokenizer.from_pretrained(folder)
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise ValueError(f"'{name}' is no text encoder of transformers.")
    return kind.from_pretrained(folder, use_safetensors=True, dtype="auto").eval()
