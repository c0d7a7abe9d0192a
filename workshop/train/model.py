"""Trains the bundled model from nothing: `make train`, or
`python -m workshop.train.model --out runs/bundled`.

Three stages, each with a progress bar and checkpoints; run the same command again to resume after an
interruption:

1. text   word vectors distilled from MiniLM, a minute
2. vae    pixels to latents and back; at the end its decoder alone, for latents that stay what they are
3. unet   denoising with text: 64×64 pixels, then 96×96, then 128×128 (`stages`)

The rate of learning falls over the last quarter of the steps of each: for the UNet these are, in the plans
(`stages`), the larger canvases, which refine what the small one taught. Before that quarter a run can be
lengthened, by the same command with more steps, or shortened: the steps of a stage that is over stay what it
took, those of the others are what there is time for, and the quarter is one of the new sum. So after 9000
steps of the first stage `--small-steps 9000 --middle-steps 1000 --full-steps 2000` falls from there on.

`--minutes 9` stops after so long, with a checkpoint; the same command goes on. `--export` trains no further
and writes the pipeline from the checkpoints as they are, while another process trains, if need be. The word
vectors need the extra `train`; to train on a machine without it, take along `OUT/tokenizer` and
`OUT/text_encoder` of another.

The result is a `StableDiffusionPipeline` folder `OUT/pipeline` with a model card. `--sheet sheet.png` draws
every concept with it, twice and nothing chosen, and says how much is recognised; `python -m
workshop.measure.bundled OUT/pipeline` adds the figures, and `--install` copies it into the package.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel

from ovamnb.downstream.fit import Run, fit, half_precision
from ovamnb.emoji.streams import Scenes, batches
from ovamnb.pipelines import find_device

from ..measure import generation
from . import autoencoder, denoiser
from .latents import Latents, moved, token_ids
from .replay import Replay
from .stages import SCHEDULES, STAGES, Schedule

_ROW = 100_000_000  # scenes of the VAE's stream from one stage's to the next one's


def train_text(out: Path) -> tuple[AutoTokenizer, CLIPTextModel]:
    """Distils the word table once; later runs read it back."""
    if not (out / "text_encoder").exists():
        from .text_table import build_text_encoder

        tokenizer, encoder = build_text_encoder(denoiser.TEXT_DIM)
        tokenizer.save_pretrained(out / "tokenizer")
        encoder.save_pretrained(out / "text_encoder")
    encoder = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32)
    encoder.get_input_embeddings().weight.requires_grad_(False)
    return AutoTokenizer.from_pretrained(out / "tokenizer"), encoder


def train_vae(
    plan: Schedule,
    out: Path,
    device: torch.device,
    *,
    export: bool = False,
    every: float = 120.0,
    until: float = math.inf,
) -> tuple[AutoencoderKL, Run]:
    """On 64×64 pictures, half of them cuttings of 128×128 scenes: the convolutions are the same, the steps
    four times cheaper."""
    torch.manual_seed(plan.seed)
    vae = autoencoder.build_autoencoder().to(device, memory_format=torch.channels_last)
    side, large_side = STAGES["small"].size[0], STAGES["full"].size[0]

    def pictures(name: str, first: int, steps: int, row: int) -> Iterator[list]:
        """Batches from step `first` on of a stage's scenes, in a row of their own."""
        stage, batch = STAGES[name], plan.vae_batch // 2
        return batches(
            "vae", row * _ROW // batch + first, steps - first, batch=batch, size=stage.size,
            seed=plan.seed, workers=plan.workers // 2, compose=stage.compose,
        )  # fmt: skip

    def mixed(first: int, steps: int, row: int) -> Iterator[Tensor]:
        whole_ones, large_ones = (
            pictures(name, first, steps, row + i) for i, name in enumerate(("small", "full"))
        )
        for (whole, *_), (large, *_) in zip(whole_ones, large_ones, strict=True):
            top, left = torch.randint(0, large_side - side + 1, (2,)).tolist()
            part = large[..., top : top + side, left : left + side]
            yield torch.cat([whole, part]).contiguous(memory_format=torch.channels_last)

    def loss(images: Tensor) -> Tensor:
        with half_precision(device):
            return autoencoder.reconstruction_loss(vae, images.to(device))

    def trained(name: str, part: nn.Module, steps: int, row: int, rate: float) -> Run:
        return fit(
            name, part, loss, partial(mixed, steps=steps, row=row), steps=0 if export else steps,
            learning_rate=rate, folder=out, ema_decay=0.999, seed=plan.seed, every=every, until=until,
        )  # fmt: skip

    run = trained("vae", vae, plan.vae_steps, 0, 1e-3)
    if export or run.step >= plan.vae_steps:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder])
        last = trained("decoder", decoder, plan.decoder_steps, 2, 3e-4)
        run = Run(run.step + last.step, run.scenes + last.scenes, run.seconds + last.seconds, last.loss)
    autoencoder.set_scale(vae, held_out_images(64, plan.seed).to(device))
    return vae.requires_grad_(False), run


def train_unet(
    plan: Schedule,
    out: Path,
    device: torch.device,
    vae: AutoencoderKL,
    tokenizer: AutoTokenizer,
    encoder: CLIPTextModel,
    *,
    export: bool = False,
    every: float = 120.0,
    until: float = math.inf,
) -> tuple[denoiser.Denoiser, Run]:
    """UNet, positions and the text encoder's norm together, stage by stage; a tenth of the captions is
    empty."""
    torch.manual_seed(plan.seed)
    model = denoiser.Denoiser(denoiser.build_unet(), encoder, denoiser.build_scheduler())
    model.to(device, memory_format=torch.channels_last)

    def encode(images: Tensor) -> Tensor:
        return autoencoder.encode(vae, images.to(device)).float()

    empty = token_ids(tokenizer, "").to(device)

    def captioned(first: int) -> Iterator[tuple[Tensor, ...]]:
        begin = 0
        for number, (stage, steps, batch) in enumerate(plan.phases):
            rest = range(max(0, first - begin), steps)
            row = Latents(
                stage, number, batch, encode=encode, tokenize=partial(token_ids, tokenizer), seed=plan.seed,
                workers=plan.workers, device=device,
            )  # fmt: skip
            for latents, tokens in row.batches(rest):
                dropped = moved(torch.rand(batch, 1) < denoiser.EMPTY_CAPTIONS, device)
                latents = latents.to(device, memory_format=torch.channels_last)
                tokens = torch.where(dropped, empty, tokens.to(device))
                yield *model.noised(latents), tokens
            begin += steps

    def loss(batch: tuple[Tensor, ...]) -> Tensor:
        with half_precision(device):
            return model(*batch)

    backward = None
    if device.type == "cuda":
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        backward = Replay(partial(denoiser.in_bfloat16, model), learned)

    steps = 0 if export else sum(steps for _, steps, _ in plan.phases)
    run = fit(
        "unet", model, loss, captioned, steps=steps, learning_rate=plan.learning_rate, folder=out,
        seed=plan.seed, every=every, until=until, backward=backward,
    )  # fmt: skip
    return model, run


def held_out_images(count: int, seed: int) -> Tensor:
    """(count, 3, 128, 128) in [-1, 1] of the validation stream."""
    data = Scenes("validation", 0, count, (128, 128), seed)
    return torch.stack([data[i][0] for i in range(count)])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.train.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bundled"), help="checkpoints and result (default %(default)s)"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--plan", choices=SCHEDULES, help="how long to train (default: gpu on CUDA, else cpu)"
    )
    parser.add_argument("--shard", default="5GB", help="largest weight file, e.g. 15MB (default %(default)s)")
    parser.add_argument(
        "--export", action="store_true", help="write the pipeline from the checkpoints as they are"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long, to be resumed")
    parser.add_argument("--sheet", type=Path, help="at the end, draw every concept twice into this PNG")
    for name, kind in Schedule.__annotations__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type={"int": int, "float": float}[str(kind)])
    given = parser.parse_args(arguments)
    until = time.monotonic() + 60 * given.minutes
    device = find_device(given.device)
    base = asdict(SCHEDULES[given.plan or ("gpu" if device.type == "cuda" else "cpu")])
    plan = Schedule(
        **{key: value if getattr(given, key) is None else getattr(given, key) for key, value in base.items()}
    )
    torch.manual_seed(plan.seed)
    torch.set_flush_denormal(True)  # vanishing gradients cost a CPU a hundred times the time of others
    torch.backends.cuda.matmul.allow_tf32 = True  # as convolutions may by default: what bfloat16 leaves over

    tokenizer, encoder = train_text(given.out)
    vae, vae_run = train_vae(plan, given.out, device, export=given.export, until=until)
    if not given.export and _stopped("VAE", vae_run, plan.vae_steps):
        return
    error, psnr = autoencoder.reconstruction_error(vae, held_out_images(64, plan.seed).to(device))
    print(f"VAE: mean absolute error {error:.2f} of 255, PSNR {psnr:.1f} dB on 64 held-out scenes")
    model, unet_run = train_unet(
        plan, given.out, device, vae, tokenizer, encoder, export=given.export, until=until
    )
    if not given.export and _stopped("UNet", unet_run, sum(steps for _, steps, _ in plan.phases)):
        return

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
    if given.sheet is not None:
        generation.main([str(given.out / "pipeline"), "--batch", "14", "--sheet", str(given.sheet)])


def _stopped(what: str, run: Run, steps: int) -> bool:
    """Whether a run was stopped by the clock before its last step; says so."""
    if run.step < steps:
        print(f"{what}: stopped after step {run.step:,} of {steps:,}; the same command goes on.")
    return run.step < steps


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
