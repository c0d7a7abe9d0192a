"""Trains the bundled model from nothing: `python -m ovamnb.emoji.train --out runs/bundled` (or `make train`).

Three stages, each with a progress bar and checkpoints; run the same command again to resume after an
interruption:

1. text   word vectors distilled from MiniLM, a minute
2. vae    pixels to latents and back
3. unet   denoising with text: small pictures first (64×64, four times as many a second), then 128×128

`--export` trains no further and writes the pipeline from the checkpoints as they are. The word vectors need
the extra `train`; to train on a machine without it, take along `OUT/tokenizer` and `OUT/text_encoder` of
another. The result is a `StableDiffusionPipeline` folder `OUT/pipeline` with a model card; `python -m
ovamnb.emoji.evaluate OUT/pipeline` adds the figures, and `--install` copies it into the package.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel

from ..loop import Run, fit, pick_device
from . import autoencoder, denoiser
from .data import Scenes, batches


@dataclass(frozen=True)
class Plan:
    """How long to train; scenes seen = steps × batch."""

    vae_steps: int
    vae_batch: int
    small_steps: int
    small_batch: int
    full_steps: int
    full_batch: int
    learning_rate: float
    seed: int = 0
    workers: int = 0


PLANS = {
    "cpu": Plan(3000, 16, 12_000, 32, 4_000, 16, 1e-3),  # a night on two cores
    "gpu": Plan(
        6000, 128, 8_000, 256, 16_000, 256, 1e-3, workers=14
    ),  # for a data-centre card; not timed yet
    "smoke": Plan(2, 2, 2, 2, 2, 2, 1e-3),  # proves that every stage runs
}


def train_text(out: Path) -> tuple[AutoTokenizer, CLIPTextModel]:
    """Distils the word table once; later runs read it back."""
    if not (out / "text_encoder").exists():
        from .text_encoder import build_text_encoder

        tokenizer, encoder = build_text_encoder(denoiser.TEXT_DIM)
        tokenizer.save_pretrained(out / "tokenizer")
        encoder.save_pretrained(out / "text_encoder")
    encoder = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32)
    encoder.get_input_embeddings().weight.requires_grad_(False)
    return AutoTokenizer.from_pretrained(out / "tokenizer"), encoder


def train_vae(
    plan: Plan, out: Path, device: torch.device, *, export: bool = False
) -> tuple[AutoencoderKL, Run]:
    """On 64×64 pictures, half of them crops of 128×128 scenes: the convolutions are the same, the steps
    four times cheaper."""
    vae = autoencoder.build_autoencoder().to(device)

    def crops(first: int) -> Iterator[torch.Tensor]:
        half = plan.vae_batch // 2
        count = plan.vae_steps - first
        settings = {"batch": half, "seed": plan.seed, "workers": plan.workers // 2}
        small = batches("vae", 2 * first, count, size=(64, 64), **settings)
        large = batches("vae", 2 * plan.vae_steps + first, count, size=(128, 128), **settings)
        for (whole, *_), (big, *_) in zip(small, large, strict=True):
            top, left = torch.randint(0, 65, (2,)).tolist()
            yield torch.cat([whole, big[..., top : top + 64, left : left + 64]])

    def loss(images: torch.Tensor) -> torch.Tensor:
        return autoencoder.reconstruction_loss(vae, images.to(device))

    steps = 0 if export else plan.vae_steps
    run = fit("vae", vae, loss, crops, steps=steps, learning_rate=1e-3, folder=out, ema_decay=0.999)
    autoencoder.set_scale(vae, held_out_images(64, plan.seed).to(device))
    return vae.requires_grad_(False), run


def train_unet(
    plan: Plan,
    out: Path,
    device: torch.device,
    vae: AutoencoderKL,
    tokenizer: AutoTokenizer,
    encoder: CLIPTextModel,
    *,
    export: bool = False,
) -> tuple[denoiser.Denoiser, Run]:
    """UNet, positions and the text encoder's norm together; latents are encoded on the way, so no scene is
    seen twice."""
    model = denoiser.Denoiser(denoiser.build_unet(), encoder, denoiser.build_scheduler()).to(device)

    def captioned(first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        settings = {"seed": plan.seed, "workers": plan.workers}
        phases = [
            (plan.small_steps, plan.small_batch, (64, 64)),
            (plan.full_steps, plan.full_batch, (128, 128)),
        ]
        begin = 0
        for steps, size_of_batch, size in phases:
            start = max(0, first - begin)
            if start < steps:
                for images, _, captions in batches(
                    "unet", start, steps - start, batch=size_of_batch, size=size, **settings
                ):
                    kept = [text if torch.rand(()) >= denoiser.EMPTY_CAPTIONS else "" for text in captions]
                    padded = tokenizer(kept, padding="max_length", truncation=True, return_tensors="pt")
                    yield images, padded["input_ids"]
            begin += steps

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, tokens = batch
        return model(autoencoder.encode(vae, images.to(device)).float(), tokens.to(device))

    steps = 0 if export else plan.small_steps + plan.full_steps
    run = fit("unet", model, loss, captioned, steps=steps, learning_rate=plan.learning_rate, folder=out)
    return model, run


def held_out_images(count: int, seed: int) -> torch.Tensor:
    """(count, 3, 128, 128) in [-1, 1] of the validation stream."""
    data = Scenes("validation", 0, count, (128, 128), seed)
    return torch.stack([data[i][0] for i in range(count)])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bundled"), help="checkpoints and result (default %(default)s)"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--plan", choices=PLANS, help="how long to train (default: gpu on CUDA, else cpu)")
    parser.add_argument("--shard", default="5GB", help="largest weight file, e.g. 15MB (default %(default)s)")
    parser.add_argument(
        "--export", action="store_true", help="write the pipeline from the checkpoints as they are"
    )
    for name, kind in Plan.__annotations__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type={"int": int, "float": float}[str(kind)])
    given = parser.parse_args(arguments)
    device = pick_device(given.device)
    base = asdict(PLANS[given.plan or ("gpu" if device.type == "cuda" else "cpu")])
    plan = Plan(
        **{key: value if getattr(given, key) is None else getattr(given, key) for key, value in base.items()}
    )
    torch.manual_seed(plan.seed)
    torch.set_flush_denormal(True)  # vanishing gradients cost a CPU a hundred times the time of others

    tokenizer, encoder = train_text(given.out)
    vae, vae_run = train_vae(plan, given.out, device, export=given.export)
    error, psnr = autoencoder.reconstruction_error(vae, held_out_images(64, plan.seed).to(device))
    print(f"VAE: mean absolute error {error:.2f} of 255, PSNR {psnr:.1f} dB on 64 held-out scenes")
    model, unet_run = train_unet(plan, given.out, device, vae, tokenizer, encoder, export=given.export)

    record = {
        "plan": asdict(plan),
        "vae": {**vars(vae_run), "error": round(error, 2), "psnr": round(psnr, 1)},
        "unet": vars(unet_run),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
    save_pipeline(given.out / "pipeline", vae, model, tokenizer, record, shard=given.shard)


def save_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    model: denoiser.Denoiser,
    tokenizer: AutoTokenizer,
    record: dict,
    *,
    shard: str,
) -> None:
    """The pipeline in float16 safetensors, its UNet `rounded`, with `training.json` beside it for the model
    card."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=model.scheduler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    ).to(dtype=torch.float16)
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            weight.copy_(rounded(weight))
    pipeline.save_pretrained(folder, max_shard_size=shard)
    # Left to themselves transformers loads what the config names and diffusers float32: make it the same.
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"saved {folder}")


def rounded(weight: Tensor) -> Tensor:
    """A float16 tensor to 6 of its 10 mantissa bits (bfloat16 has 7): a fifth less for git to pack, which
    keeps every model that a repository ever carried."""
    return ((weight.view(torch.int16) + 8) & -16).view(torch.float16)


if __name__ == "__main__":
    main()
