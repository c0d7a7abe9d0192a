"""Scenes as an endless stream of batches: batch number i is always the same, wherever a run starts or
resumes."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .scenes import Scene, scene
from .sprites import CONCEPTS

# One number per use: no two uses share a scene. The order is part of the data: append only, and a use that is
# gone ("classifier") keeps its place.
STREAMS = (
    *("vae", "unet", "classifier", "validation", "test", "clip", "oracle", "tokens", "captions"),
    "downstream",
    *("unseen-validation", "unseen-test"),
)

_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def stream_rng(seed: int, stream: str, index: int) -> np.random.Generator:
    """The generator of scene `index` of a stream."""
    return np.random.default_rng((seed, STREAMS.index(stream), index))


def stream(name: str, count: int, objects: int | None = None, seed: int = 0) -> list[Scene]:
    """`count` scenes of a stream, with captions in plain class names; `objects`: only scenes that show that
    many."""
    start = 50_000 * (objects or 0)
    all_scenes = (
        scene(stream_rng(seed, name, start + i), count=objects, plain=True) for i in itertools.count()
    )
    wanted = (picture for picture in all_scenes if objects in (None, len(picture.objects)))
    return list(itertools.islice(wanted, count))


def of_concept(
    name: str, concept: str, count: int, objects: int = 1, seed: int = 0, style: str | None = None
) -> list[Scene]:
    """`count` scenes of a stream that show this many `objects`, one of them of this concept; `style` as for
    `scene`."""
    start = 1_000_000 + 50_000 * (len(CONCEPTS) * objects + CONCEPTS.index(concept))
    all_scenes = (
        scene(stream_rng(seed, name, start + i), count=objects, style=style, plain=True)
        for i in itertools.count()
    )
    wanted = (
        picture
        for picture in all_scenes
        if len(picture.objects) == objects and concept in [thing.concept for thing in picture.objects]
    )
    return list(itertools.islice(wanted, count))


@dataclass
class Scenes(Dataset):
    """Scenes `start` … `stop` of a stream as (image (3, h, w) in [-1, 1], label map (h, w), caption).
    `compose` makes a scene from a generator and a size (h, w)."""

    stream: str
    start: int
    stop: int
    size: tuple[int, int]
    seed: int = 0
    compose: Callable[..., Scene] = scene

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, str]:
        picture = self.compose(stream_rng(self.seed, self.stream, self.start + i), size=self.size)
        return to_tensor(picture.image), torch.from_numpy(picture.labels), picture.caption


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """(h, w, 3) uint8 → (3, h, w) float32 in [-1, 1], the VAE's range."""
    return scaled(planes(image))


def planes(image: np.ndarray) -> torch.Tensor:
    """(h, w, 3) uint8 → (3, h, w) uint8."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 → float32 in [-1, 1], the same shape."""
    return pixels.float() / 127.5 - 1


def batches(
    stream: str,
    first: int,
    count: int,
    *,
    batch: int,
    size: tuple[int, int],
    seed: int = 0,
    workers: int = 0,
    compose: Callable[..., Scene] = scene,
) -> Iterator[list]:
    """Batches `first` … `first + count - 1` of a stream, in order, whatever the number of workers."""
    data = Scenes(stream, first * batch, (first + count) * batch, size, seed, compose)
    return iter(DataLoader(data, batch_size=batch, **by_workers(workers)))


def by_workers(workers: int) -> dict[str, Any]:
    """Options for a DataLoader whose scenes are made by this many worker processes, or by none.

    The workers are not forked from this process, which would break its use of the GPU, but, where the system
    allows it, from a server that has imported the project's modules already: fourteen start in a second.
    """
    # A loader takes a random number when it starts: not from the caller's generator.
    options: dict[str, Any] = {"num_workers": workers, "generator": torch.Generator()}
    if not workers:
        return options
    context = multiprocessing.get_context(_START)
    ours = ("ovamnb.", "workshop.")
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # None for a notebook or a script
    if _START == "forkserver" and spec is not None and spec.name.startswith(ours):
        # Each worker imports the command again. In other people's programs the server is theirs to set up.
        context.set_forkserver_preload([name for name in sys.modules if name.startswith(ours)])
    return options | {"multiprocessing_context": context, "prefetch_factor": 4}
