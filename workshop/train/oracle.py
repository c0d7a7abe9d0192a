"""An oracle: which concept does every pixel of a picture show? A U-Net trained on rendered scenes and their
exact masks; it never sees the diffusion model's attention.

    oracle = load_oracle()          # the one in the repository; `python -m workshop.train.oracle` trains it
    oracle.labels(image)            # (h, w) int64: 0, or k for CONCEPTS[k - 1]

It stands in for the truth where there is none: on pictures that the bundled model drew. How far to trust it
is measured, by `oracle_miou`, on held-out scenes, as they are and after a pass through the model's VAE, which
is how generated pictures look.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovamnb.data.on_disk import IGNORED
from ovamnb.downstream.fit import fit, half_precision
from ovamnb.emoji.scenes import Scene, scene
from ovamnb.emoji.scores import ConceptIoU
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import batches, stream, to_tensor
from ovamnb.pipelines import find_device, load_pipeline
from ovamnb.plumbing.command import ends, positive
from ovamnb.plumbing.files import whole

from .stages import STAGES

TRAINED = Path(__file__).with_name("oracle.safetensors")
JUDGE = Path(__file__).with_name("judge.safetensors")
"""Another one, by `--seed 1 --steps 2400 900`: it shares no scene and no first weight with the oracle that
annotated for the shipped tokens, and can judge them."""
STEPS = (1600, 700)
"""Of the U-Net alone, then of everything with the full resolution: an hour on one core."""
WIDTHS = (32, 64, 128, 192)  # channels at a half, a quarter, an eighth, a sixteenth of the image
EDGE = 24  # channels at the full resolution


def convolution(before: int, after: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution with its normalisation and activation."""
    conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(8, after), nn.SiLU())


class Coarse(nn.Module):
    """A U-Net: images (batch, 3, h, w) in [-1, 1] → features (batch, 32, h/2, w/2), logits (batch,
    concept + 1, h/2, w/2); sides are multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(WIDTHS))
        self.stem = nn.Sequential(
            convolution(3, WIDTHS[0], size=5, stride=2), convolution(WIDTHS[0], WIDTHS[0])
        )
        self.down = nn.ModuleList(
            nn.Sequential(convolution(fine, coarse, stride=2), convolution(coarse, coarse))
            for fine, coarse in pairs
        )
        self.up = nn.ModuleList(
            nn.Sequential(convolution(coarse + fine, fine), convolution(fine, fine))
            for fine, coarse in reversed(pairs)
        )
        self.head = nn.Conv2d(WIDTHS[0], len(CONCEPTS) + 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = [self.stem(images)]
        for down in self.down:
            seen.append(down(seen[-1]))
        x = seen.pop()
        for up in self.up:
            skip = seen.pop()
            x = up(torch.cat([F.interpolate(x, size=skip.shape[-2:]), skip], dim=1))
        return x, self.head(x)


class Oracle(nn.Module):
    """images (batch, 3, h, w) in [-1, 1] → logits (batch, concept + 1, h, w): the U-Net says what at half the
    resolution, and two convolutions at the full one correct its outlines. At half the resolution alone an
    object forty pixels wide loses a twentieth of its IoU at its edge.
    """

    def __init__(self, coarse: Coarse | None = None) -> None:
        super().__init__()
        self.coarse = coarse or Coarse()
        self.near = convolution(3, EDGE)
        self.fine = nn.Sequential(convolution(WIDTHS[0] + EDGE, EDGE), nn.Conv2d(EDGE, len(CONCEPTS) + 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features, logits = self.coarse(images)
        near = self.near(images)
        return enlarged(logits, images) + self.fine(torch.cat([enlarged(features, images), near], dim=1))

    @torch.no_grad()
    def labels(self, image: Image.Image) -> Tensor:
        """The label of every pixel (h, w) int64: 0 is the ground, k the concept `CONCEPTS[k - 1]`."""
        pixels = to_tensor(np.array(image.convert("RGB"))).to(next(self.parameters()).device)
        return self(pixels[None])[0].argmax(dim=0).cpu()


def enlarged(features: Tensor, images: Tensor) -> Tensor:
    """features (batch, dim, h', w') on the grid of images (batch, 3, h, w)."""
    return F.interpolate(features, size=images.shape[-2:], mode="bilinear", align_corners=False)


def load_oracle(path: Path = TRAINED, device: str | None = None) -> Oracle:
    """The trained oracle, kept in half precision; FileNotFoundError where it is not."""
    if not path.is_file():
        raise FileNotFoundError(f"No {path}: train it with `python -m workshop.train.oracle`.")
    oracle = Oracle()
    oracle.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return oracle.to(find_device(device)).eval()


def save_oracle(oracle: Oracle, path: Path = TRAINED) -> None:
    """For `load_oracle`, whole or not at all."""
    with whole(path) as partial:
        kept = {name: value.half().cpu().contiguous() for name, value in oracle.state_dict().items()}
        save_file(kept, partial)


def train_oracle(
    folder: Path,
    *,
    steps: tuple[int, int] = STEPS,
    batch: int = 16,
    seed: int = 0,
    device: str | None = None,
) -> Oracle:
    """Trains the oracle, or reads it back: the checkpoint of a finished run is its result.

    steps: see `STEPS`. seed: of the first weights and of the scenes; oracles of two seeds share neither, so
    that what one annotates the other can judge. Half of the pictures pass through the bundled model's VAE
    first, so that soft edges and washed-out textures are nothing new.
    """
    place = find_device(device)
    vae = load_pipeline(device=str(place)).vae

    def pictures(first: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        many = batches(
            "oracle", first, stop - first, batch=batch, size=(128, 128), seed=seed, compose=of_either_kind
        )  # fmt: skip
        for images, labels, _ in many:
            with half_precision(place):
                images[::2] = reconstructed(vae, images[::2])
            yield images.contiguous(memory_format=torch.channels_last), labels.long()

    def train(
        name: str, module: nn.Module, logits: Callable[[Tensor], Tensor], first: int, count: int, rate: float
    ):
        def loss(pair: tuple[Tensor, Tensor]) -> Tensor:
            images, labels = (part.to(place) for part in pair)
            with half_precision(place):
                return F.cross_entropy(logits(images).float(), labels)

        module.to(place, memory_format=torch.channels_last)
        fit(
            name, module, loss, lambda start: pictures(first + start, first + count),
            steps=count, learning_rate=rate, folder=folder, ema_decay=0.998, seed=seed,
        )  # fmt: skip

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        coarse = Coarse()
        oracle = Oracle(coarse)
    train("oracle", coarse, lambda images: enlarged(coarse(images)[1], images), 0, steps[0], 2e-3)
    train("oracle-fine", oracle, oracle, steps[0], steps[1], 1e-3)
    return oracle


def of_either_kind(rng: np.random.Generator, *, size: tuple[int, int]) -> Scene:
    """A scene of any styles and sizes, or one as the bundled model learned to draw them."""
    return scene(rng, size=size) if rng.random() < 0.5 else STAGES["full"].compose(rng, size=size)


@torch.no_grad()
def reconstructed(vae, images: Tensor) -> Tensor:
    """images (batch, 3, h, w) in [-1, 1] after encoding and decoding."""
    latents = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode()
    return vae.decode(latents).sample.clamp(-1, 1).to(images)


def without_borders(labels: Tensor) -> Tensor:
    """Labels (h, w) int64 with 255, which does not count, wherever a neighbour has another label: in an
    outline of two pixels, as Pascal VOC's annotators left one of five."""
    field = labels[None, None].float()
    lowest, highest = -F.max_pool2d(-field, 3, 1, 1), F.max_pool2d(field, 3, 1, 1)
    return torch.where(lowest[0, 0] == highest[0, 0], labels, IGNORED)


def oracle_miou(oracle: Oracle, vae=None, count: int = 200, *, borders: bool = False) -> float:
    """Of the oracle's labels on held-out scenes; with a `vae`, on their reconstructions. `borders`: outlines
    count too."""
    iou = ConceptIoU()
    for picture in stream("test", count):
        pixels = to_tensor(picture.image)[None]
        if vae is not None:
            pixels = reconstructed(vae, pixels)
        image = Image.fromarray(((pixels[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
        truth = torch.from_numpy(picture.labels).long()
        iou.update(oracle.labels(image), truth if borders else without_borders(truth))
    return iou.miou()


@ends("python -m workshop.train.oracle")
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.train.oracle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/oracle"), help="checkpoints (%(default)s)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--steps", type=positive, nargs=2, metavar=("COARSE", "FINE"), default=STEPS,
        help="of the U-Net alone, then with the full resolution (default: {} {})".format(*STEPS),
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another one makes another oracle (%(default)s)")
    parser.add_argument("--save", type=Path, default=TRAINED, help="the result (the one in the repository)")
    given = parser.parse_args(arguments)
    oracle = train_oracle(given.out, steps=tuple(given.steps), seed=given.seed, device=given.device)
    save_oracle(oracle, given.save)
    print(f"mIoU on held-out scenes: {oracle_miou(oracle.cpu()):.3f}")


if __name__ == "__main__":
    main()
