"""The latents that the UNet learns from: a window that slides along an endless row of scenes.

Rendering and encoding a scene costs a third of a small training step, so each scene is used several times.
Of scenes 0, 1, 2, … of a stage, batch i holds

    pool + q·i, …, pool + q·(i + 1) - 1            q new ones, a quarter of the batch
    the rest, drawn with (seed, i), of the `pool` scenes before them

Which scenes a batch holds, and which noise is dealt to them, thus follows from its number alone. What was
encoded is kept while it can be drawn again, but only to save time: a run that is resumed, its memory empty,
renders and encodes anew whatever it draws, for some minutes, and sees what it would have seen. (Each scene is
encoded by itself: of a batch of another size a convolution's last bits may differ.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .data import stream_rng, to_tensor
from .stages import Stage

FRESH = 0.25  # share of a batch that no batch before it held
_STAGE = 1_000_000_000  # scenes from one stage to the next: no two share a scene


class Latents:
    """Batches of one stage as (latents (batch, 4, h, w) float32, token ids (batch, token)).

    encode: images (1, 3, h, w) in [-1, 1] → latents (1, 4, h / 4, w / 4). tokenize: a caption → ids (token,).
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
    ) -> None:
        self.stage, self.number, self.batch, self.seed = stage, number, batch, seed
        self.encode, self.tokenize = encode, tokenize
        self.fresh = max(1, round(FRESH * batch))
        self.held = np.full(stage.pool + self.fresh, -1)  # which scene lies in each place
        self.latents = self.tokens = torch.empty(0)

    def scenes(self, index: int) -> np.ndarray:
        """The numbers of the scenes in batch `index` (batch,), the new ones first."""
        newest = self.stage.pool + self.fresh * index
        rng = np.random.default_rng((self.seed, self.number, index))
        older = rng.integers(newest - self.stage.pool, newest, self.batch - self.fresh)
        return np.concatenate([np.arange(newest, newest + self.fresh), older])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        numbers = self.scenes(index)
        places = numbers % len(self.held)
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            if self.held[place] != number:
                self._render(number, place)
        return self.latents[places].float(), self.tokens[places].long()

    def _render(self, number: int, place: int) -> None:
        rng = stream_rng(self.seed, "unet", _STAGE * (1 + self.number) + number)
        picture = self.stage.compose(rng)
        latents = self.encode(to_tensor(picture.image)[None])[0].cpu()
        tokens = self.tokenize(picture.caption)
        if not len(self.latents):
            self.latents = torch.zeros(len(self.held), *latents.shape, dtype=torch.float16)
            self.tokens = torch.zeros(len(self.held), *tokens.shape, dtype=torch.int32)
        self.latents[place], self.tokens[place], self.held[place] = latents, tokens, number
