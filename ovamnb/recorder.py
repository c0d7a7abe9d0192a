"""Forward hooks that record the attention of a UNet while it makes an image."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from .buffers import QueryBuffers
from .layout import Generation, numbers
from .maps import add_self_attention
from .pipelines import factor, find_device, find_dtype, free_bytes, model_name
from .plumbing import checks
from .select import (
    Block,
    Blocks,
    Grid,
    as_blocks,
    as_resolution,
    as_steps,
    chosen,
    on_grid,
    select,
    show_grid,
    show_steps,
)
from .text import TextEncoder
from .trace import Trace
from .unet import attentions, key_weight, transformers, unet_of

HALVES = {
    "conditional": ("conditional",),
    "unconditional": ("unconditional",),
    "negative": ("unconditional",),  # the same half, where it holds a negative prompt
    "both": ("conditional", "unconditional"),
}


@contextmanager
def record(
    pipe,
    *,
    queries: str = "conditional",
    self_attention: int | Sequence[int | Grid] = (),
    steps: int | Iterable[int] | None = None,
    blocks: Blocks | None = None,
    device: str | torch.device | None = "cpu",
    dtype: torch.dtype | str = torch.float16,
    guidance: bool | None = None,
) -> Iterator[Trace]:
    """Record one generation: its cross-attention queries and, on request, its self-attention.

        with ov.record(pipe, self_attention=(32,)) as trace:
            image = pipe("a cat and a car on grass").images[0]
        trace.maps("a kitten on grass")["kitten"]

    `queries`: under guidance the UNet runs on each image twice, with the prompt and without; keep
        "conditional", "unconditional" (the official OVAM's choice), which a negative prompt turns into
        "negative", or "both".
    `self_attention`: resolutions, each the longer side of a grid or (h, w), at which to keep the mean of all
        heads, layers and steps, summed up during the generation: 4·(h·w)² bytes an image.
    `steps`, `blocks`: keep only these (see `Trace.maps`). A step is one pass of the UNet, counted from 0. On
        the first bundled model two of 25, evenly spaced, scored as all did (`ovamnb.evaluation.ablate`).
    `device`, `dtype`: where the trace lies at the end, and how queries are kept. In float16 Stable Diffusion
        1.5 takes 23 MB a step and image, SDXL 210 MB. Until the end, a GPU keeps as many as fit into a
        quarter of its free memory, and the rest goes over while it computes (see `ovamnb.buffers`). None
        leaves all on the model's device if they fit there.
    `guidance`: only for a denoising loop written by hand whose batch has several entries: True for
        [unconditional…, conditional…], False where each is an image. A pipeline says it itself.

    The image is the same, bit for bit, as without recording, and the hooks are removed at the end. After an
    exception the trace is empty. A `torch.compile`d model runs uncompiled meanwhile: hooks added to
    compiled code would never run.

    Warns after the first step if the queries of all steps will not fit into the memory that is free. Raises
    ValueError for a model or options that cannot be recorded, TypeError for arguments of a wrong kind;
    in the first step, ValueError for steps beyond the last and for self-attention that does not fit into the
    free memory; during the generation, ValueError for a second one and for a pipeline that denoises one
    picture in several views, and RuntimeError where a cache or another patch skips attention.
    """
    checks.one_of("queries", queries, HALVES)
    if guidance is not None:
        checks.flag("guidance", guidance)
    resolutions = self_attention if checks.is_list(self_attention) else [self_attention]
    generation = Generation(
        as_steps(steps), HALVES[queries], guidance=guidance, negative=queries == "negative"
    )
    recorder = _Recorder(
        unet_of(pipe),
        generation,
        tuple(map(as_resolution, resolutions)),
        as_blocks(blocks),
        None if device is None else find_device(device),
        find_dtype(dtype),
    )
    trace = Trace()
    try:
        with torch.compiler.set_stance("force_eager"), recorder.attached():
            yield trace
    finally:
        generation.call = None  # a frame keeps all local variables of the pipeline's call alive
    recorder.hand_over(trace)
    trace.text_encoder = TextEncoder.of(pipe)
    trace.model = model_name(pipe)
    if generation.size and getattr(pipe, "vae", None) is not None:
        trace.image_size = tuple(side * factor(pipe) for side in generation.size[1:])


class _Recorder:
    """The hooks, and what they have recorded so far."""

    def __init__(
        self,
        unet: nn.Module,
        generation: Generation,
        resolutions: tuple[int | Grid, ...],
        wanted_blocks: Blocks | None,
        device: torch.device | None,
        dtype: torch.dtype,
    ) -> None:
        self.unet, self.generation = unet, generation
        self.resolutions, self.wanted_blocks = resolutions, wanted_blocks
        self.device, self.dtype = device, dtype
        self.blocks: dict[str, Block] = {}
        self.queries: QueryBuffers | None = None  # from the first pass on
        self.key_weights: dict[str, Tensor] = {}  # block → (dim + 1, head·head_dim)
        self.sums: dict[Grid, Tensor] = {}  # (image, h·w, h·w)
        self.layers = Counter()  # grid → how many maps its sum holds
        self.grids: dict[str, Grid] = {}  # attention → its grid in the latest pass

    @contextmanager
    def attached(self) -> Iterator[None]:
        # Modules are looked up now, not when the model was loaded: LoRA replaces `to_q` by a wrapper.
        self.cross, self.self_ = attentions(self.unet, bool(self.resolutions))
        with ExitStack() as hooks:
            for transformer, names in transformers(self.unet).items():
                hook = partial(self.on_transformer, names)
                hooks.enter_context(transformer.register_forward_pre_hook(hook, with_kwargs=True))
            for name, attn in self.cross.items():
                hook = partial(self.on_cross_attention, name, attn)
                hooks.enter_context(attn.to_q.register_forward_hook(hook))
            for name, attn in self.self_.items():
                hook = partial(self.on_self_attention, name, attn)
                hooks.enter_context(attn.to_q.register_forward_hook(hook))
            hooks.enter_context(self.unet.register_forward_pre_hook(self.on_pass, with_kwargs=True))
            hooks.enter_context(self.unet.register_forward_hook(self.on_pass_done))
            yield

    def on_pass(self, unet: nn.Module, args: tuple, kwargs: dict) -> None:
        sample = args[0] if args else kwargs["sample"]  # (batch, channel, h, w)
        self.generation.begin(unet, sample, args[1] if len(args) > 1 else kwargs["timestep"])
        self.fired = Counter()
        if self.queries is None:
            self.queries = QueryBuffers(self.device, self.dtype, self.generation.count)

    def on_transformer(self, names: list[str], transformer: nn.Module, args: tuple, kwargs: dict) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (batch, channel, h, w)
        self.grids |= dict.fromkeys(names, tuple(hidden.shape[-2:]))

    def kept_grid(self, name: str, query: Tensor) -> Grid | None:
        """The grid (h, w) of `query` (batch, h·w, head·head_dim); None in a pass that is not recorded."""
        if not (self.generation.running and self.generation.keeping):
            return None
        self.fired[name] += 1
        h, w = self.grids[name]
        if query.shape[1] != h * w:
            raise RuntimeError(
                f"{name} attends from {query.shape[1]} tokens on a grid of {h}×{w}: token merging or another "
                "patch is on; switch it off while recording."
            )
        return h, w

    @torch.no_grad()
    def on_cross_attention(self, name: str, attn, to_q: nn.Module, inputs: tuple, query: Tensor) -> None:
        grid = self.kept_grid(name, query)
        if grid is None or not chosen(self.wanted_blocks, name, grid):
            return
        if name not in self.blocks:
            self.blocks[name] = Block(grid, attn.heads, attn.scale)
            self.key_weights[name] = key_weight(attn, query)
        for half in self.generation.halves:
            self.queries.add((half, name), query[self.generation.parts[half]])

    @torch.no_grad()
    def on_self_attention(self, name: str, attn, to_q: nn.Module, inputs: tuple, query: Tensor) -> None:
        grid = self.kept_grid(name, query)
        if grid is None or not any(on_grid(resolution, grid) for resolution in self.resolutions):
            return
        part = self.generation.parts[self.generation.halves[0]]
        query, key = query[part], attn.to_k(inputs[0][part])  # self-attention: both are of the same input
        if grid not in self.sums:
            need, free = 4 * len(query) * query.shape[1] ** 2, free_bytes(query.device)
            if need > free:
                raise ValueError(
                    f"Self-attention on {show_grid(grid)} takes {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
                    "are free: choose a coarser resolution, or fewer images at once."
                )
            self.sums[grid] = query.new_zeros(len(query), *[query.shape[1]] * 2, dtype=torch.float32)
        add_self_attention(self.sums[grid], query, key, heads=attn.heads, scale=attn.scale)
        self.layers[grid] += 1

    def on_pass_done(self, unet: nn.Module, args: tuple, output) -> None:
        if self.generation.keeping:
            self.check_pass()
            self.queries.step_done()
            if len(self.generation.kept) == 1:
                self.warn_of_memory()
        self.generation.end()

    def check_pass(self) -> None:
        for name in (*self.cross, *self.self_):
            if self.fired[name] != 1:
                raise RuntimeError(
                    f"{name} ran {self.fired[name]} times in step {self.generation.passes}, not once: a step "
                    "cache or another patch is on; switch it off while recording."
                )
        if self.wanted_blocks is not None:
            select(self.wanted_blocks, {name: self.grids[name] for name in self.cross})
        for resolution in self.resolutions:
            if not any(on_grid(resolution, grid) for grid in self.sums):
                have = ", ".join(show_grid(grid) for grid in sorted(set(self.grids.values()), reverse=True))
                raise ValueError(
                    f"There is no self-attention at resolution {resolution}: at this image size the model "
                    f"has {have}."
                )

    def warn_of_memory(self) -> None:
        """After the first kept pass, while there is still time to stop."""
        need = self.generation.still * self.queries.step_bytes
        free = free_bytes(torch.device("cpu"))
        if need > free:
            warnings.warn(
                f"This recording will take {need / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free: keep "
                "fewer steps (`steps=range(5, 15)`), fewer blocks (`blocks='up'`) or one prompt.",
                stacklevel=2,
            )

    def hand_over(self, trace: Trace) -> None:
        # Nothing was drawn, or it broke off and the caller caught the exception.
        generation = self.generation
        if generation.running or self.queries is None:
            return
        for (half, name), queries in self.queries.finish().items():
            trace.queries.setdefault(half, {})[name] = queries
        place = self.queries.device
        # Under torch.inference_mode the hooks made tensors that could not enter an optimisation later.
        with torch.inference_mode(False), torch.no_grad():
            trace.key_weights = {
                name: weight.to(place, copy=True) for name, weight in self.key_weights.items()
            }
            for grid, total in self.sums.items():
                trace.affinities[grid] = (total / self.layers[grid]).to(place)
        trace.blocks = self.blocks
        trace.steps, trace.timesteps = tuple(generation.kept), numbers(generation.kept.values())
        trace.passes, trace.images = generation.passes, generation.size[0]
        missing = [step for step in generation.steps or () if step >= generation.passes]
        if missing:  # a loop written by hand, which says nowhere how long it is
            warnings.warn(
                f"This generation had {generation.passes} steps, counted from 0, so that "
                f"{show_steps(missing)} could not be recorded.",
                stacklevel=4,
            )
