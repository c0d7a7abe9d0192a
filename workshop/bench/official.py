"""The authors' own code, from checkouts that the caller names; nothing of it is part of this package.

hooker = ovam_hooker(folder)            # OVAM's class that records: with hooker(pipe): pipe(…)
module = ovam_module(trace, folder)     # OVAM's maps, on the queries of our trace: module(states)
tracer = daam_tracer(folder)            # DAAM's class that records and sums as it goes
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from ovamnb.trace import Trace

HOMES = {"ovam": "github.com/vpulab/ovam", "daam": "github.com/castorini/daam"}


def checkout(package: str):
    """For argparse: a folder that holds `package`; the message says where to get one."""

    def read(text: str) -> Path:
        folder = Path(text).expanduser()
        if not (folder / package / "__init__.py").is_file():
            raise argparse.ArgumentTypeError(
                f"'{text}' holds no folder '{package}': give a checkout, made by "
                f"`git clone https://{HOMES[package]}`."
            )
        return folder

    return read


def load(folder: Path, name: str) -> ModuleType:
    """A module of the authors' package; ImportError where it needs what is not installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: their folders must not hide anything of ours
    return importlib.import_module(name)


def ovam_hooker(folder: Path) -> type:
    """The context manager that records as OVAM does."""
    return load(folder, "ovam").StableDiffusionHooker


def daam_tracer(folder: Path) -> type:
    """The context manager that records as DAAM does."""
    return load(folder, "daam").trace


def ovam_module(
    trace: Trace,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    expand_size: tuple[int, int] | None = None,
) -> nn.Module:
    """The authors' maps of the queries in our trace: states (token, dim) → (1, token, h, w).

    `dtype`: how they hold their queries, which is how the pipeline computes. Their grids are square.
    """
    block_of = load(folder, "ovam.stable_diffusion.daam_block").CrossAttentionDAAMBlock
    module_of = load(folder, "ovam.stable_diffusion.daam_module").StableDiffusionDAAM
    blocks = []
    for i, name in enumerate(trace.select()[0]):
        block, weight = trace.blocks[name], trace.key_weights[name]
        query = trace.queries["conditional"][name][:, 0].to(dtype)  # (step, h·w, head·head_dim)
        to_k = nn.Linear(*weight[:-1].shape, bias=False, device=query.device, dtype=dtype)
        to_k.weight.data.copy_(weight[:-1].T)
        heads_first = query.unflatten(-1, (block.heads, -1)).transpose(1, 2).contiguous()
        blocks.append(
            block_of(
                to_k=to_k.requires_grad_(False),
                hidden_states=[heads_first],
                scale=block.scale,
                heads=block.heads,
                name=f"block{i}",
                heads_epochs_activation="token_softmax",
            )
        )
    parts = type("Parts", (), {"tokenizer": None, "text_encoder": None})
    return module_of(blocks=blocks, pipeline=parts, heatmaps_aggregation="sum", expand_size=expand_size)
