"""Train a segmentation network on labelled pictures, predict with it, and score it.

    module = train([synthetic, real], real.classes, steps=300)      # Data, or any examples
    table = score(module, test)                                     # (class + 1, class + 1)
    labels = predict(module, image)                                 # (h, w)

Cross-entropy, AdamW and the project's own loop, without its checkpoints: a run takes a minute. The same seed
gives the same module on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.base import Data, Example
from ..data.on_disk import IGNORED
from ..evaluation.metrics import confusion
from ..pipelines import find_device
from .fit import fit
from .network import DEFAULT, RATES, Segmenter, check_network
from .pictures import Sample, drawn, fitting, pixels, resized, sample
from .sources import matched

WARM_UP = 0.05
"""The share of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class Training:
    """How a network is trained: the same for every source and mix, so that only the pictures differ.

    network: one of NETWORKS. steps: of the optimiser. batch: pictures per step. size: (h, w) in pixels, into
    which pictures are scaled to fit. Raises ValueError for an unknown network and for counts below one.
    """

    network: str = DEFAULT
    steps: int = 900
    batch: int = 8
    size: tuple[int, int] = (64, 64)

    def __post_init__(self) -> None:
        check_network(self.network)
        for name, value in (("steps", self.steps), ("batch", self.batch), ("size", min(self.size))):
            if value < 1:
                raise ValueError(f"{name} counts from 1, not {value}.")


def train(
    sources: Sequence[Data | Sequence[Example]],
    classes: Sequence[str],
    *,
    then: bool = False,
    seed: int = 0,
    device: str | None = None,
    quiet: bool = False,
    **recipe,
) -> Segmenter:
    """A new network, trained on all sources: as many pictures of one as of another in each batch; or with
    `then` on one after the other, each for an equal share of the steps.

    sources: labels of a Data are matched to `classes` by name; other examples have them already. recipe: as
    for Training. Raises ValueError as Training and Matched, and for no pictures.
    """
    plan = Training(**recipe)
    pools = []
    for source in sources:
        pools.append([sample(example, plan.size) for example in matched(source, classes)])
    return train_samples(pools, classes, plan, then=then, seed=seed, device=device, quiet=quiet)


def train_samples(
    pools: Sequence[Sequence[Sample]],
    classes: Sequence[str],
    recipe: Training,
    *,
    then: bool = False,
    seed: int = 0,
    device: str | None = None,
    quiet: bool = False,
) -> Segmenter:
    """As `train`, on samples that were read already."""
    if not pools or not all(pools):
        raise ValueError("A source has no pictures: there is nothing to learn from.")
    place = find_device(device)
    with torch.random.fork_rng():  # the caller's own random numbers stay as they are
        torch.manual_seed(seed)
        module = Segmenter(recipe.network, tuple(classes), recipe.size)
        module.to(place, memory_format=torch.channels_last)

        def batches(start: int) -> Iterator[tuple[Tensor, Tensor]]:
            for step in range(start, recipe.steps):
                now = [pools[step * len(pools) // recipe.steps]] if then else pools
                yield drawn(now, step, batch=recipe.batch, size=recipe.size, seed=seed)

        def loss(pair: tuple[Tensor, Tensor]) -> Tensor:
            images, labels = (part.to(place) for part in pair)
            return pixel_loss(module(images), labels)

        fit(
            recipe.network,
            module,
            loss,
            batches,
            steps=recipe.steps,
            learning_rate=RATES[recipe.network],
            folder=None,
            warm_up=max(1, round(WARM_UP * recipe.steps)),
            ema_decay=0.0,  # a minute's run ends at a rate of zero, which averages by itself
            quiet=quiet,
        )
    return module


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (batch, class + 1, h, w) and labels (batch, h, w) int64, the mean over all
    pixels that count; zero where none does."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


@torch.no_grad()
def predict(module: Segmenter, image: Image.Image) -> Tensor:
    """The label of each pixel of a picture of any size: (h, w) int64, 0 for the background, k for
    `module.classes[k - 1]`.

    The picture is scaled to fit into `module.size`, and the logits are scaled back.
    """
    w, h = image.size
    small = resized(image, fitting((h, w), module.size))
    place = next(module.parameters()).device
    planes = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    logits = module(pixels(planes)[None].to(place)).float()
    return F.interpolate(logits, size=(h, w), mode="bilinear", align_corners=False)[0].argmax(dim=0).cpu()


def score(module: Segmenter, examples: Data | Iterable[Example]) -> Tensor:
    """The confusion over all examples, (class + 1, class + 1) int64, rows are the truth: see
    `evaluation.metrics`, whose `mean_iou` makes one number of it.

    Labels of a Data are matched to `module.classes` by name; other examples have them already.
    """
    total = torch.zeros(len(module.classes) + 1, len(module.classes) + 1, dtype=torch.int64)
    for example in matched(examples, module.classes):
        truth = torch.from_numpy(example.labels).long()
        total += confusion(predict(module, example.image), truth, len(module.classes))
    return total
