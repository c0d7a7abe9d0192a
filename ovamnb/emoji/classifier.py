"""An independent judge: which concepts does a picture show? Trained on rendered scenes, it never sees the
diffusion model.

>>> judge = train_classifier(Path("runs/classifier"))
>>> presence = judge(images).sigmoid()          # (batch, 3, h, w) in [-1, 1] → (batch, concept) in [0, 1]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .data import Scenes, batches
from .loop import fit, pick_device
from .sprites import CONCEPTS

CHANNELS = (32, 64, 96, 128)
PRESENT = 0.5
"""An object is found where the judge's probability exceeds this."""


class Judge(nn.Sequential):
    """Four strided convolutions and a second look at the coarsest grid, then the most certain place of each
    concept."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((3, *CHANNELS), (*CHANNELS, CHANNELS[-1]), strict=False):
            stride = 2 if after != before else 1
            layers += [
                nn.Conv2d(before, after, 5 if before == 3 else 3, stride, 2 if before == 3 else 1, bias=False)
            ]
            layers += [nn.GroupNorm(8, after), nn.SiLU()]
        super().__init__(*layers, nn.Conv2d(CHANNELS[-1], len(CONCEPTS), 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """images (batch, 3, h, w) in [-1, 1] → logits (batch, concept): the maximum over places."""
        return super().forward(images).amax(dim=(-2, -1))


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
        images, truth = (part.to(place) for part in pair)
        return (
            nn.functional.binary_cross_entropy_with_logits(judge(images).float(), truth, reduction="none")
            .sum(1)
            .mean()
        )

    def labelled(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, _ in batches("classifier", first, steps - first, batch=batch, size=(128, 128)):
            if torch.rand(()) < 0.5:
                images = nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
            yield images + 0.05 * torch.randn_like(images), presence(labels)

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
        found.append((judge(images.to(place)).sigmoid() > PRESENT).cpu().numpy())
        there.append(presence(labels).bool().numpy())
    f, t = np.concatenate(found), np.concatenate(there)
    return {"recall": float((f & t).sum() / t.sum()), "precision": float((f & t).sum() / f.sum())}
