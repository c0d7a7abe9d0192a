"""An independent judge: which concepts does a picture show? Trained on rendered scenes, it never sees the
diffusion model.

It learns from the exact masks, cell by cell: told only which concepts a scene shows, it needs far longer.

>>> judge = train_classifier(Path("runs/classifier"))
>>> judge.found(images)          # (batch, 3, h, w) in [-1, 1] → (batch, concept) bool
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..loop import fit, pick_device
from .data import Scenes, batches
from .sprites import CONCEPTS

CELL = 8  # pixels; the judge decides cell by cell
PRESENT = 0.5
"""An object is found where the judge gives its concept more than this in some cell."""


class Judge(nn.Sequential):
    """Three strided convolutions to cells of 8×8 pixels, then dilated ones to see whole objects."""

    def __init__(self) -> None:
        def layer(
            before: int, after: int, size: int = 3, stride: int = 1, dilation: int = 1
        ) -> nn.Sequential:
            conv = nn.Conv2d(before, after, size, stride, dilation * (size // 2), dilation, bias=False)
            return nn.Sequential(conv, nn.GroupNorm(8, after), nn.SiLU())

        super().__init__(
            layer(3, 32, size=5, stride=2),
            layer(32, 64, stride=2),
            layer(64, 128, stride=2),
            *(layer(128, 128, dilation=dilation) for dilation in (1, 2, 2, 1)),
            nn.Conv2d(128, len(CONCEPTS) + 1, 1),
        )

    def found(self, images: Tensor) -> Tensor:
        """images (batch, 3, h, w) in [-1, 1] → (batch, concept) bool: certain enough in at least one cell."""
        return self(images).float().softmax(1)[:, 1:].amax(dim=(-2, -1)) > PRESENT


def presence(labels: Tensor) -> Tensor:
    """label maps (batch, h, w) → (batch, concept) float: 1 where the concept has a visible pixel."""
    one_hot = torch.zeros(len(labels), len(CONCEPTS) + 1)
    return one_hot.scatter_(1, labels.flatten(1).long(), 1.0)[:, 1:]


def train_classifier(folder: Path, *, steps: int = 1500, batch: int = 32, device: str | None = None) -> Judge:
    """Trains the judge, or reads it back: the checkpoint of a finished run is its result. Minutes on two
    cores.

    A weak blur and noise are added, so that the judge does not live on the renderer's crisp edges, which a
    VAE never has.
    """
    place = pick_device(device)
    judge = Judge().to(place)

    def loss(pair: tuple[Tensor, Tensor]) -> Tensor:
        images, cells = (part.to(place) for part in pair)
        return nn.functional.cross_entropy(judge(images).float(), cells)

    def labelled(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, _ in batches("classifier", first, steps - first, batch=batch, size=(128, 128)):
            if torch.rand(()) < 0.5:
                images = nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
            centres = labels[:, CELL // 2 :: CELL, CELL // 2 :: CELL].long()
            yield images + 0.05 * torch.randn_like(images), centres

    fit("classifier", judge, loss, labelled, steps=steps, learning_rate=2e-3, folder=folder, ema_decay=0.998)
    return judge


@torch.no_grad()
def judge_accuracy(judge: Judge, count: int = 500, seed: int = 0) -> dict[str, float]:
    """On held-out rendered scenes: the share of objects found (recall) and of findings that are right
    (precision)."""
    place = next(judge.parameters()).device
    data = Scenes("validation", 10_000, 10_000 + count, (128, 128), seed)
    found, there = [], []
    for start in range(0, count, 50):
        rows = [data[i] for i in range(start, min(count, start + 50))]
        images, labels = (torch.stack(part) for part in list(zip(*rows, strict=True))[:2])
        found.append(judge.found(images.to(place)).cpu().numpy())
        there.append(presence(labels).bool().numpy())
    f, t = np.concatenate(found), np.concatenate(there)
    return {"recall": float((f & t).sum() / t.sum()), "precision": float((f & t).sum() / f.sum())}
