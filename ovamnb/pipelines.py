"""Loading a diffusion pipeline: the bundled one, three well-known ones, a folder, or any hub id."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from .models import BUNDLED, KNOWN, HubModel
from .plumbing import checks
from .plumbing.files import as_path

DTYPES = ("float32", "float16", "bfloat16", "float64")
HUB_SECONDS = 5.0  # how long to wait for the hub's first answer


def load_pipeline(
    name: str | Path = "bundled",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
):
    """Load a diffusers pipeline, ready to generate and to be recorded.

        pipe = ov.load_pipeline()                     # the small model that comes with this package
        pipe = ov.load_pipeline("sd15")               # or "sd21", "sdxl": pinned commits on the hub
        pipe = ov.load_pipeline("models/my-folder")   # any folder with a model_index.json
        pipe = ov.load_pipeline("owner/name@revision")

    `device`: None takes this machine's accelerator (CUDA, Apple's MPS, …), else the CPU.
    `dtype`: torch.float16 or its name, "float16"; None takes float32, except for hub models and folders
    on CUDA, which get float16. The bundled model is too small to gain from half precision, and in
    float32 its figures are the same on every device; on MPS, half precision can turn attention, and so a
    whole image, into NaN.

    What is already in the local cache is used without a request to the hub. Weights are safetensors only,
    no remote code is run, and no safety checker is loaded.

    Raises ValueError for a name that is none of the above, for a device this machine lacks, for a dtype that
    is not floating-point and for a folder whose files are damaged, OSError for a folder where files are
    missing, and FileNotFoundError, saying how to get them, for weights that are neither here nor reachable.
    """
    device = find_device(device)
    dtype = None if dtype is None else find_dtype(dtype)
    name = name if isinstance(name, str) else as_path(name)
    if name == "bundled":
        if not (BUNDLED / "model_index.json").is_file():
            raise FileNotFoundError(
                "The bundled model is not part of this installation: reinstall ovamnb, or load another "
                f"pipeline ({_choices()})."
            )
        return _from_folder(BUNDLED, dtype or torch.float32).to(device)

    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    folder = Path(os.path.expanduser(name))
    if name not in KNOWN and os.path.isdir(folder):  # unlike Path's, False for a name that is too long
        if not os.path.isfile(folder / "model_index.json"):
            raise ValueError(
                f"The folder '{name}' holds no model_index.json, so it is no diffusers pipeline: give the "
                "folder that `pipe.save_pretrained` wrote."
            )
        with _in_one_sentence(folder):
            pipe = _from_folder(folder, dtype)
        return pipe.to(device)
    return _from_hub(KNOWN.get(str(name)) or _hub_model(str(name)), str(name), dtype).to(device)


def find_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or the best one of this machine for None; ValueError where the machine does not have it."""
    if device is None:
        here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return here or torch.device("cpu")
    try:
        if not isinstance(device, str | torch.device):
            raise TypeError
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"Unknown device {checks.shown(device)}: say 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from None
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= gpus:
        have = f"only {gpus} CUDA GPU(s)" if gpus else "no CUDA GPU (or this PyTorch was built without CUDA)"
        raise ValueError(f"Asked for device '{found}', but this machine has {have}: say device='cpu'.")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("Asked for device 'mps', but this machine has no Apple GPU: say device='cpu'.")
    if found.type not in ("cpu", "cuda", "mps") and found.type != find_device().type:
        raise ValueError(f"Asked for device '{found}', which this machine does not have: say device='cpu'.")
    return found


def find_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A floating-point dtype, or the one of that name; ValueError, naming them, for anything else."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise ValueError(
            f"dtype is a floating-point dtype, torch.{', torch.'.join(DTYPES)} or such a name as 'float16', "
            f"not {checks.shown(dtype)}."
        )
    return found


def model_name(pipe) -> str:
    """What to call a pipeline's model: "bundled", a hub id, or the name of its folder; "" if it has none."""
    origin = str(getattr(pipe, "config", {}).get("_name_or_path") or "")
    if origin == str(BUNDLED):
        return "bundled"
    cached = re.search(r"models--(.+?)--(.+?)[/\\]", origin)  # a folder of the hub's own cache
    if cached:
        return "/".join(cached.groups())
    return Path(origin).name if Path(origin).is_dir() else origin


def factor(pipe) -> int:
    """How many times smaller than the image the latents are, each way: the VAE's factor."""
    return 2 ** (len(pipe.vae.config.block_out_channels) - 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep diffusers and transformers from printing warnings and loading bars; restore them after."""
    libraries = _loggers()
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        silence()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their deprecations of one another's arguments
            yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def silence() -> None:
    """Switch off the warnings and loading bars of diffusers and transformers; errors are still shown."""
    for library in _loggers():
        library.set_verbosity_error()
        library.disable_progress_bar()


def _loggers() -> tuple:
    # transformers warns about a missing torchvision while diffusers imports it, before its own switch
    # can be reached; Python's logging reaches it by name.
    root = logging.getLogger("transformers")
    level, _ = root.level, root.setLevel(logging.ERROR)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    root.setLevel(level)
    return diffusers_logging, transformers_logging


def _choices() -> str:
    names = ", ".join(f"'{name}'" for name in ("bundled", *KNOWN))
    return f"{names}, a folder with a model_index.json, or a hub id 'owner/name'"


def _hub_model(name: str) -> HubModel:
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match:
        return HubModel(*match.groups())
    near = difflib.get_close_matches(name.lower(), ["bundled", *KNOWN], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"Unknown pipeline '{name}'.{hint} Known are {_choices()}.")


def _without_safety_checker(config: dict) -> dict:
    """The arguments that leave the safety checker out, for the pipelines that know them."""
    import diffusers

    if not isinstance(config, dict):
        raise ValueError("its model_index.json holds no settings.")
    name = config.get("_class_name")
    pipeline = getattr(diffusers, name, None) if isinstance(name, str) else None
    known = inspect.signature(pipeline).parameters if pipeline else {}
    off = {"safety_checker": None, "requires_safety_checker": False}
    return {key: value for key, value in off.items() if key in known}


def _from_folder(folder: Path, dtype: torch.dtype, variant: str | None = None):
    with quiet():
        from diffusers import DiffusionPipeline

        off = _without_safety_checker(DiffusionPipeline.load_config(folder))
        return DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, variant=variant, **off
        )


@contextmanager
def _in_one_sentence(folder: Path) -> Iterator[None]:
    """One error for whatever the libraries find wrong in a folder: theirs are of many classes."""
    try:
        yield
    except Exception as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(
            f"The folder '{folder}' cannot be loaded, so save the pipeline anew by `pipe.save_pretrained`: "
            f"{' '.join(str(error).split()) or type(error).__name__}"
        ) from None


def _from_hub(model: HubModel, name: str, dtype: torch.dtype):
    with quiet():
        from diffusers import DiffusionPipeline

    def load(variant: str | None, *, local: bool):
        where = {"revision": model.revision, "local_files_only": local}
        with quiet():
            off = _without_safety_checker(DiffusionPipeline.load_config(model.repo, **where))
        folder = DiffusionPipeline.download(model.repo, use_safetensors=True, variant=variant, **where, **off)
        return _from_folder(Path(folder), dtype, variant)

    half = "fp16" if model.half_files and dtype == torch.float16 else None
    for variant in dict.fromkeys((half, None)):
        try:  # first what is here: no network, no wait
            with quiet():
                return load(variant, local=True)
        except (OSError, ValueError):
            continue
    _ask_the_hub(model, name)
    return load(half, local=False)


def _ask_the_hub(model: HubModel, name: str) -> None:
    """One short request, so that a missing network or repository is reported at once, not after retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().model_info(model.repo, revision=model.revision, timeout=HUB_SECONDS)
    except GatedRepoError:
        problem = f"'{model}' is gated: accept its terms on the hub, then run `hf auth login`."
        raise FileNotFoundError(problem) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ValueError(
            f"'{name}' is neither a folder here nor a pipeline on the hub. Known are {_choices()}."
        ) from None
    except Exception as error:  # no network, a proxy, offline mode: many libraries, many classes
        revision = f" --revision {model.revision}" if model.revision else ""
        target = f"models/{model.repo.split('/')[1]}"
        no_folder = (
            "" if name in KNOWN else f"There is no folder '{name}' here, and as a hub id it cannot be had: "
        )
        raise FileNotFoundError(
            f"{no_folder}The weights of '{name}' are not on this machine and the Hugging Face hub cannot be "
            f"reached ({type(error).__name__}): where there is a network, run `hf download "
            f"{model.repo}{revision} "
            '--include "*.json" --include "*.txt" --include "*/*.safetensors" '
            f"--local-dir {target}`, bring that folder here and say `load_pipeline('{target}')`."
        ) from None


def free_bytes(device: torch.device) -> int:
    """Memory that is free on `device`, in bytes; on a shared server no more than it grants (MEM_LIMIT, as on
    Binder)."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    free = psutil.virtual_memory().available
    if limit := os.environ.get("MEM_LIMIT"):
        free = min(free, int(limit) - psutil.Process().memory_info().rss)
    return max(0, free)
