"""A tiny CLIP that knows emoji scenes; `python -m workshop.train.clip_training` trains it.

    model, processor = load_clip()
    keep = ClipFilter.load("bundled")       # the same as a filter for `ov.segment`

A `CLIPModel` like any other: a vision transformer on patches of 16×16 pixels, and one layer of text
transformer on the bundled model's own word vectors, so that it also knows words that were in no caption.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor
from transformers import PreTrainedTokenizerFast as Tokenizer

from ..pipelines import BUNDLED

CLIP = BUNDLED.parent / "clip"
SIDE, PATCH = 128, 16
TABLE = "text_model.embeddings.token_embedding.weight"
"""The weights that are not stored here: they are the bundled text encoder's."""


def build_clip() -> tuple[CLIPModel, CLIPProcessor]:
    """Untrained, on the bundled tokenizer and word table (frozen)."""
    tokenizer = Tokenizer.from_pretrained(BUNDLED / "tokenizer")
    table = load_file(BUNDLED / "text_encoder" / "model.safetensors")
    (vectors,) = (tensor for name, tensor in table.items() if name.endswith("token_embedding.weight"))
    count, dim = vectors.shape
    text = {
        "vocab_size": count,
        "hidden_size": dim,
        "intermediate_size": dim,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    embedding = model.get_submodule(TABLE.removesuffix(".weight"))
    embedding.weight.data.copy_(vectors)
    embedding.weight.requires_grad_(False)
    sides = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(
        size=sides, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return model, CLIPProcessor(images, tokenizer)


def load_clip(folder: Path = CLIP) -> tuple[CLIPModel, CLIPProcessor]:
    """The trained model and its processor; FileNotFoundError where it has not been trained."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"No {path}: train it with `python -m workshop.train.clip_training`.")
    model, processor = build_clip()
    kept = {TABLE: model.state_dict()[TABLE]}
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()} | kept)
    return model.eval(), processor


def least_similarity(folder: Path = CLIP) -> float:
    """The smallest cosine at which an image counts as showing a concept; chosen on validation scenes."""
    return json.loads((folder / "figures.json").read_text())["least"]
