"""Models of known shapes to measure on. Weights and queries are random, which changes no cost."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ovamnb.pipelines import load_pipeline, quiet
from ovamnb.recorder import record
from ovamnb.select import Block, Grid
from ovamnb.trace import Trace
from ovamnb.unet import attentions, transformers

TOKENS = 77  # that the text encoders of Stable Diffusion take
UNETS = {
    "sd15": {"sample_size": 64, "cross_attention_dim": 768},
    "sdxl": {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
    },
}
"""UNet2DConditionModel's settings, where they are not its own defaults; SDXL's without its further
condition on the image's size, which changes no attention."""


def pipeline(shape: str, device: str | torch.device | None = None):
    """The bundled pipeline; for "sd15" with a UNet of that shape, and a text encoder of 77 tokens."""
    pipe = load_pipeline(device=device)
    pipe.set_progress_bar_config(disable=True)
    if shape == "bundled":
        return pipe
    from transformers import CLIPTextConfig, CLIPTextModel

    place = {"device": pipe.device, "dtype": pipe.unet.dtype}
    dim = UNETS[shape]["cross_attention_dim"]
    small = pipe.text_encoder.config.to_dict() | {"num_hidden_layers": 1, "num_attention_heads": 8}
    small |= {"hidden_size": dim, "intermediate_size": dim, "max_position_embeddings": TOKENS}
    with quiet(), torch.device(pipe.device):
        unet = UNet2DConditionModel(**UNETS[shape]).to(**place).eval()
        pipe.text_encoder = CLIPTextModel(CLIPTextConfig(**small)).to(**place).eval()
    pipe.register_modules(unet=unet)
    pipe.tokenizer.model_max_length = TOKENS
    return pipe


def recorded(shape: str, steps: int, device: str | torch.device | None = None) -> Trace:
    """A trace of the shape's size: the bundled model's is recorded; for others the queries are drawn at
    random, since their UNets take minutes on a CPU."""
    if shape == "bundled":
        pipe = pipeline(shape, device)
        with record(pipe, device=pipe.device) as trace:
            pipe("a cat", num_inference_steps=steps, generator=torch.Generator().manual_seed(0))
        return trace
    trace, place = Trace(), torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(0)
    trace.images, trace.steps, trace.timesteps = 1, tuple(range(steps)), tuple(range(steps, 0, -1))
    trace.queries["conditional"] = {}
    dim = UNETS[shape]["cross_attention_dim"]
    for name, (block, width) in layers(shape).items():
        h, w = block.grid
        query = torch.empty(steps, 1, h * w, width, device=place, dtype=torch.float16)
        trace.queries["conditional"][name] = query.normal_()
        weight = torch.randn(dim + 1, width, device=place) / dim**0.5
        weight[-1] = 0  # no bias
        trace.blocks[name], trace.key_weights[name] = block, weight
    return trace


def layers(shape: str) -> dict[str, tuple[Block, int]]:
    """Each cross-attention's grid, heads and scale, and the width head·head_dim of its queries, as the UNet
    shows them on the meta device, which computes nothing."""
    config = UNETS[shape]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        side, dim = config["sample_size"], config["cross_attention_dim"]
        latents, states = torch.empty(1, unet.config.in_channels, side, side), torch.empty(1, 1, dim)
    grids: dict[str, Grid] = {}

    def hook(names: list[str]):
        return lambda module, args: grids.update(dict.fromkeys(names, tuple(args[0].shape[-2:])))

    with ExitStack() as hooks:
        for module, names in transformers(unet).items():
            hooks.enter_context(module.register_forward_pre_hook(hook(names)))
        unet(latents, torch.empty(1, device="meta"), encoder_hidden_states=states)
    return {
        name: (Block(grids[name], attn.heads, attn.scale), attn.inner_dim)
        for name, attn in attentions(unet, with_self=False)[0].items()
    }


def states_of(trace: Trace, tokens: int) -> Tensor:
    """Text states (token, dim) to ask with: random, of the size that this trace's model reads."""
    weight = next(iter(trace.key_weights.values()))
    torch.manual_seed(tokens)
    return torch.randn(tokens, len(weight) - 1).to(weight.device)
