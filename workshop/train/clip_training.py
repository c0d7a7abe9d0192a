"""Trains the tiny CLIP of emoji scenes: `python -m workshop.train.clip_training`, half an hour.

Every image is compared with every concept on its own, sigmoid and not softmax (SigLIP, Zhai et al., ICCV
2023, arXiv 2303.15343): an image shows several things at once, or none of them. It learns from the exact
masks, patch by patch, and from the whole picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor

from ovamnb.downstream.fit import fit
from ovamnb.emoji import words
from ovamnb.emoji.scenes import Scene
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import batches, stream
from ovamnb.evidence import ClipFilter
from ovamnb.evidence.clip import CLIP, PATCH, SIDE, TABLE, build_clip, load_clip
from ovamnb.pipelines import find_device
from ovamnb.plumbing.command import WRONG, ends
from ovamnb.plumbing.english import with_article


class Pairs(nn.Module):
    """The training loss: sigmoid cross-entropy of every picture, and every patch, with every concept."""

    def __init__(self, model: CLIPModel, processor: CLIPProcessor) -> None:
        super().__init__()
        self.model, self.tokenizer = model, processor.tokenizer
        self.scale = nn.Parameter(torch.tensor(2.3))  # the logarithm of 10, as in SigLIP
        self.bias = nn.Parameter(torch.tensor(-4.0))  # few of the pairs belong together

    def forward(self, images: Tensor, cells: Tensor) -> Tensor:
        """images (batch, 3, h, w) in [-1, 1]; cells (batch, h, w), the label at each patch's centre."""
        vision = self.model.vision_model(images)
        hidden = torch.cat((vision.pooler_output[:, None], self._patches(vision.last_hidden_state)), dim=1)
        seen = nn.functional.normalize(self.model.visual_projection(hidden), dim=-1)
        logits = (
            self.scale.exp() * seen @ self._texts(images.device).T + self.bias
        )  # (batch, 1 + h·w, concept)
        inside = nn.functional.one_hot(cells.flatten(1).long(), len(CONCEPTS) + 1)[..., 1:].float()
        whole = presence(cells.cpu()).to(inside)
        loss = nn.functional.binary_cross_entropy_with_logits
        patches = loss(logits[:, 1:], inside, reduction="none").sum(-1).mean()
        return patches + loss(logits[:, 0], whole, reduction="none").sum(-1).mean()

    def _patches(self, states: Tensor) -> Tensor:
        return self.model.vision_model.post_layernorm(states[:, 1:])

    def _texts(self, device: torch.device) -> Tensor:
        """(concept, dim), one text for each concept: any of its names, behind any opening."""
        texts = []
        for concept in CONCEPTS:
            names = words.NAMES[concept]
            name = names[int(torch.randint(len(names), ())) if torch.rand(()) < 0.5 else 0]
            opening = words.PREFIXES[int(torch.randint(len(words.PREFIXES), ()))]
            texts.append(f"{opening} {with_article(name)}".strip())
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(device)
        pooled = self.model.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        return nn.functional.normalize(self.model.text_projection(pooled), dim=-1)


def presence(labels: Tensor) -> Tensor:
    """label maps (batch, h, w) → (batch, concept) float: 1 where the concept has a visible pixel."""
    one_hot = torch.zeros(len(labels), len(CONCEPTS) + 1)
    return one_hot.scatter_(1, labels.flatten(1).long(), 1.0)[:, 1:]


def train_clip(folder: Path, run: Path, *, steps: int, batch: int, device: str | None, workers: int) -> None:
    """Trains with checkpoints in `run`, and writes `folder/model.safetensors` in float16."""
    place = find_device(device)
    model, processor = build_clip()
    pairs = Pairs(model, processor).to(place)

    def labelled(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        stream = batches("clip", first, steps - first, batch=batch, size=(SIDE, SIDE), workers=workers)
        for images, labels, _ in stream:
            if torch.rand(()) < 0.5:  # crisp edges are the renderer's, not the things'
                images = nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
            centres = labels[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
            yield images + 0.05 * torch.randn_like(images), centres

    def loss(pair: tuple[Tensor, Tensor]) -> Tensor:
        return pairs(*(part.to(place) for part in pair))

    fit("clip", pairs, loss, labelled, steps=steps, learning_rate=1e-3, folder=run, ema_decay=0.998)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half().cpu().contiguous() for k, v in model.state_dict().items() if k != TABLE}
    save_file(weights, folder / "model.safetensors")
    print(f"saved {folder}")


@torch.no_grad()
def similarities(keep: ClipFilter, pictures: Sequence[Scene], names: Sequence[str]) -> Tensor:
    """(scene, name), cosines."""
    texts = [f"a photograph of {with_article(name)}" for name in names]
    pairs = (keep.embed(picture.image, texts) for picture in pictures)
    return torch.stack([texts @ image[0] for image, texts in pairs])


def rates(found: Tensor, there: Tensor) -> dict[str, float]:
    """Of bool (scene, concept): the share of findings that are right, of concepts that are found, and F1."""
    right = float((found & there).sum())
    precision, recall = right / max(1, int(found.sum())), right / int(there.sum())
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(1e-9, precision + recall),
    }


def measure(folder: Path, *, validation: int = 400, test: int = 200) -> dict:
    """The cosine that separates best (F1) on validation scenes, and what it finds on test scenes; written to
    `folder/figures.json`."""
    keep = ClipFilter(*load_clip(folder))

    def scored(stream_name: str, count: int) -> tuple[Tensor, Tensor]:
        pictures = stream(stream_name, count)
        there = presence(torch.stack([torch.from_numpy(picture.labels) for picture in pictures]))
        return similarities(keep, pictures, CONCEPTS), there.bool()

    near, there = scored("validation", validation)
    cuts = torch.linspace(-1, 1, 201)
    least = float(max(cuts, key=lambda cut: rates(near >= cut, there)["f1"]))
    figures = {"least": round(least, 2), "validation": rates(near >= least, there)}
    near, there = scored("test", test)
    figures |= {"test_scenes": test, "test": rates(near >= least, there)}
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


@ends("python -m workshop.train.clip_training")
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.train.clip_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/clip"), help="checkpoints (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=CLIP, help="the result (default: the package's own)")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        find_device(given.device)
    torch.set_flush_denormal(True)
    train_clip(
        given.out, given.run, steps=given.steps, batch=given.batch, device=given.device, workers=given.workers
    )
    print(json.dumps(measure(given.out), indent=2))


if __name__ == "__main__":
    main()
