"""Heads that say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from ..plumbing import checks
from ..select import Blocks
from .passes import Passes


def silenced(said: Tensor, which: Sequence[int], *, heads: int, rows: Sequence[int]) -> Tensor:
    """What an attention's heads found, side by side, with zeros where the heads `which` spoke.

    `said` (batch, h·w, head·head_dim), the input of `to_out[0]`: head i has the channels from i·head_dim on.
    """
    per_head = said.unflatten(-1, (heads, -1)).clone()  # (batch, h·w, head, head_dim)
    for row in rows:
        per_head[row, :, list(which)] = 0
    return per_head.flatten(-2)


@contextmanager
def silence(
    pipe,
    heads: int | Iterable[int] | None = None,
    *,
    attention: str = "cross",
    blocks: Blocks | None = None,
    steps: int | Iterable[int] | None = None,
    images: int | Iterable[int] | None = None,
    halves: str = "conditional",
    guidance: bool | None = None,
) -> Iterator[None]:
    """Set to zero what attention heads add to the picture, while it is drawn.

        with intervene.silence(pipe, heads=[1], blocks="up_blocks.1.attentions.1"):
            image = pipe("a cat on grass").images[0]

    `heads`: numbers counted from 0; None for all heads, so that of a whole layer its bias remains.
    `attention`: "cross" (to the text), "self" or "both". `blocks`: as for `Trace.maps`, parts of names or
    longer sides of grids; None for all, the mid block included. `steps`: passes of the UNet, counted from 0;
    None for all. `images`: of the batch, counted from 0; None for all. `halves`: "conditional",
    "unconditional" or "both" under guidance. `guidance`: only for a loop written by hand, as for `ov.record`.

    For different heads in different blocks, nest one `with` for each. Raises ValueError for a head that none
    of the layers has, and in the first pass for blocks, steps and images that are not there.
    """
    now = Passes(pipe, blocks=blocks, steps=steps, images=images, halves=halves, guidance=guidance)
    layers = now.layers(attention)
    if heads is not None:
        given = list(heads) if checks.is_list(heads) else [heads]
        heads = [checks.whole("heads", head, 0, why="are counted from 0") for head in given]
    chosen = layers
    if isinstance(now.blocks, str):  # a part of a name is known before the first pass; a grid is not
        chosen = {name: attn for name, attn in layers.items() if now.blocks in name} or layers
    most = max(attn.heads for attn in chosen.values())
    if heads is not None and (not heads or max(heads) >= most):
        have = f"these layers have {most} at most, counted from 0"
        raise ValueError(
            f"There is no head {max(heads)}: {have}." if heads else f"heads=[] names none: {have}."
        )
    for name, attn in layers.items():
        which = [head for head in range(attn.heads) if heads is None or head in heads]
        change = partial(_change, which, attn.heads)
        now.on_input(attn.to_out[0], change, name)
    with now.attached():
        yield


def _change(which: Sequence[int], heads: int, rows: list[int], said: Tensor) -> Tensor:
    return silenced(said, which, heads=heads, rows=rows) if which else said
