"""What to know of a UNet: its attentions, their grids, their key weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .select import Grid


def unwrapped(unet: nn.Module) -> nn.Module:
    """The model itself, where `torch.compile(unet)` has put a wrapper around it."""
    return getattr(unet, "_orig_mod", unet)


def unet_of(pipe) -> nn.Module:
    """A pipeline's UNet; ValueError for a pipeline that has none, TypeError for what is no pipeline."""
    unet = unwrapped(getattr(pipe, "unet", None))
    if isinstance(unet, nn.Module):
        return unet
    if getattr(pipe, "transformer", None) is not None:
        raise ValueError(
            f"{type(pipe).__name__} has no UNet: in its transformer the text changes from layer to layer, so "
            "other words cannot be asked afterwards."
        )
    raise TypeError(f"ov.record takes a diffusers pipeline with a UNet, not {type(pipe).__name__}.")


def require_parts(pipe) -> nn.Module:
    """A pipeline's UNet, where there are also a VAE and a text encoder; ValueError, naming what is missing,
    and errors as of `unet_of`."""
    unet = unet_of(pipe)
    parts = {"a VAE": ("vae",), "a text encoder": ("text_encoder", "text_encoder_2")}
    for what, names in parts.items():
        if all(getattr(pipe, name, None) is None for name in names):
            raise ValueError(
                f"This {type(pipe).__name__} has no {what.split(' ', 1)[1]}: load it with {what}."
            )
    return unet


def native_size(unet: nn.Module) -> Grid:
    """(h, w) of the latents that this UNet was made for."""
    native = unet.config.sample_size
    return (native, native) if isinstance(native, int) else tuple(native)


def attention_grids(unet: nn.Module, size: Grid | None = None) -> list[Grid]:
    """The grids (h, w) of the cross-attentions in the down and up blocks, finest first, for latents of this
    size (h, w); None means the native one. An up block may attend to the text where no down block does.
    """
    return grids_of(unet.config, size or native_size(unet))


def grids_of(config: Mapping, size: Grid) -> list[Grid]:
    """`attention_grids` from a UNet's configuration alone, for latents of this size (h, w)."""
    h, w = size
    grids = []
    ways = config["down_block_types"], reversed(config["up_block_types"])
    for kinds in zip(*ways, strict=True):
        if any("CrossAttn" in kind for kind in kinds):
            grids.append((h, w))
        h, w = -(-h // 2), -(-w // 2)  # a stride of two rounds up
    return grids


def transformers(unet: nn.Module) -> dict[nn.Module, list[str]]:
    """{Transformer2DModel, whose input has the grid's shape: names of its attentions}."""
    from diffusers import Transformer2DModel

    return {
        module: [
            f"{name}.{inner}" for inner, attn in module.named_modules() if hasattr(attn, "is_cross_attention")
        ]
        for name, module in unet.named_modules()
        if isinstance(module, Transformer2DModel)
    }


def attentions(unet: nn.Module, with_self: bool) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Cross- and, if wanted, self-attention by name; ValueError for keys that are no plain product W_K X."""
    modules = dict(unet.named_modules())
    every = {name: modules[name] for names in transformers(unet).values() for name in names}
    if any(attn.fused_projections for attn in every.values()):
        raise ValueError("This UNet's projections are fused: call `pipe.unfuse_qkv_projections()` first.")
    cross = {name: attn for name, attn in every.items() if attn.is_cross_attention}
    if not cross:
        raise ValueError("This UNet has no cross-attention: it does not look at any text.")
    plain = all(
        attn.norm_cross is None and attn.norm_k is None and attn.inner_kv_dim == attn.inner_dim
        for attn in cross.values()
    )
    if not plain or unet.config.encoder_hid_dim_type not in (None, "ip_image_proj"):
        raise ValueError(
            "This UNet transforms the text before its keys, so other words cannot be asked afterwards."
        )
    return cross, {name: attn for name, attn in every.items() if name not in cross} if with_self else {}


def key_weight(attn, like: Tensor) -> Tensor:
    """W_K, as the model applies it in this very call (LoRA scale, offloading): (dim + 1, head·head_dim)."""
    dim = attn.cross_attention_dim
    probe = torch.eye(dim + 1, dim, device=like.device, dtype=like.dtype)  # the unit vectors, and the origin
    response = attn.to_k(probe)
    return torch.cat([response[:-1] - response[-1], response[-1:]])
