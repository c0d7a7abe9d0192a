"""The latents that the UNet learns from: a window that slides along an endless row of scenes.

Rendering and encoding a scene costs a third of a small training step, so each scene is used several times.
Of scenes 0, 1, 2, … of a stage, batch i holds

    pool + q·i, …, pool + q·(i + 1) - 1            q new ones, a quarter of the batch
    the rest, drawn with (seed, i), of the `pool` scenes before them

Which scenes a batch holds, and which noise is dealt to them, thus follows from its number alone. What was
encoded is kept while it can be drawn again, but only to save time: a run that is resumed, its memory empty,
renders and encodes anew whatever it draws, for some minutes, and sees what it would have seen.

By itself a scene is encoded alone: of a batch of another size a convolution's last bits may differ. That
would starve a GPU. With `workers`, other processes render ahead, and what a batch lacks is encoded `CHUNK`
scenes at a time: the same scenes, captions and noise, latents but for those bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerFast

from ovamnb.emoji.streams import by_workers, planes, scaled, stream_rng

from .stages import Stage

FRESH = 0.25  # share of a batch that no batch before it held
CHUNK = 128  # scenes that a worker hands over at a time
_STAGE = 1_000_000_000  # scenes from one stage to the next: no two share a scene


@dataclass
class Row(Dataset):
    """The scenes of one stage as (pixels (3, h, w) uint8, token ids (token,)), by their numbers."""

    stage: Stage
    number: int
    tokenize: Callable[[str], Tensor]
    seed: int = 0

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = stream_rng(self.seed, "unet", _STAGE * (1 + self.number) + int(number))
        picture = self.stage.compose(rng)
        return planes(picture.image), self.tokenize(picture.caption)


class Latents:
    """Batches of one stage as (latents (batch, 4, h, w) float32, token ids (batch, token)), on `device`.

    encode: images (n, 3, h, w) in [-1, 1] → latents (n, 4, h / 4, w / 4). tokenize: a caption → ids (token,);
    workers must be able to import it.
    """

    def __init__(
        self,
        stage: Stage,
        number: int,
        batch: int,
        *,
        encode: Callable[[Tensor], Tensor],
        tokenize: Callable[[str], Tensor],
        seed: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.row, self.encode = Row(stage, number, tokenize, seed), encode
        self.batch, self.workers, self.device = batch, workers, device
        self.fresh = max(1, round(FRESH * batch))
        self.held = np.full(stage.pool + self.fresh, -1)  # which scene lies in each place
        self.latents = self.tokens = torch.empty(0)

    def scenes(self, index: int) -> np.ndarray:
        """The numbers of the scenes in batch `index` (batch,), the new ones first."""
        row = self.row
        newest = row.stage.pool + self.fresh * index
        rng = np.random.default_rng((row.seed, row.number, index))
        older = rng.integers(newest - row.stage.pool, newest, self.batch - self.fresh)
        return np.concatenate([np.arange(newest, newest + self.fresh), older])

    def batches(self, indices: range) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of these numbers, in order."""
        if not self.workers:
            yield from map(self.__getitem__, indices)
            return
        # The loader asks for what will be lacking long before the batches that lack it are dealt.
        ahead = (chunk.tolist() for chunks in self._lacking(indices, self.held.copy()) for chunk in chunks)
        rendered = iter(DataLoader(self.row, batch_sampler=ahead, **by_workers(self.workers)))
        for index, chunks in zip(indices, self._lacking(indices, self.held.copy()), strict=True):
            for chunk in chunks:
                self._keep(chunk, *next(rendered))
            yield self._dealt(self.scenes(index))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        numbers = self.scenes(index)
        for number in numbers.tolist():
            if self.held[number % len(self.held)] != number:
                pixels, tokens = self.row[number]
                self._keep(np.array([number]), pixels[None], tokens[None])
        return self._dealt(numbers)

    def _lacking(self, indices: range, held: np.ndarray) -> Iterator[list[np.ndarray]]:
        """For each batch the numbers of the scenes that would have to be rendered for it, in chunks, if
        nothing but the batches before it changed what is `held`."""
        for index in indices:
            numbers = np.unique(self.scenes(index))
            lacking = numbers[held[numbers % len(held)] != numbers]
            held[lacking % len(held)] = lacking
            yield [lacking[i : i + CHUNK] for i in range(0, len(lacking), CHUNK)]

    def _keep(self, numbers: np.ndarray, pixels: Tensor, tokens: Tensor) -> None:
        """Encodes scenes: pixels (n, 3, h, w) uint8, token ids (n, token)."""
        latents = self.encode(scaled(moved(pixels, self.device)))
        if not len(self.latents):
            make = partial(torch.zeros, device=self.device)
            self.latents = make(len(self.held), *latents.shape[1:], dtype=torch.float16)
            self.tokens = make(len(self.held), *tokens.shape[1:], dtype=torch.int32)
        places = self._places(numbers)
        self.latents[places] = latents.to(self.latents)
        self.tokens[places] = moved(tokens.int(), self.device)
        self.held[numbers % len(self.held)] = numbers

    def _dealt(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        places = self._places(numbers)
        return self.latents[places].float(), self.tokens[places].long()

    def _places(self, numbers: np.ndarray) -> Tensor:
        return moved(torch.from_numpy(numbers % len(self.held)), self.device)


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """On the device, without waiting until a GPU has done what it was told before."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def token_ids(tokenizer: PreTrainedTokenizerFast, caption: str) -> Tensor:
    """(token,), padded to the model's length."""
    return tokenizer(caption, padding="max_length", truncation=True, return_tensors="pt")["input_ids"][0]
