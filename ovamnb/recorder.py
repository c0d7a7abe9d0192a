"""Forward hooks that record the attention of a UNet while it makes an image."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from .layout import batch_layout, running_call
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
)
from .text import TextEncoder
from .trace import Trace
from .unet import attentions, key_weight, transformers, unet_of

HALVES = {
    "conditional": ("conditional",),
    "unconditional": ("unconditional",),
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
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float16,
    guidance: bool | None = None,
) -> Iterator[Trace]:
    """Record one generation: its cross-attention queries and, on request, its self-attention.

        with ov.record(pipe, self_attention=(32,)) as trace:
            image = pipe("a cat and a car on grass").images[0]
        trace.maps("a kitten on grass")["kitten"]

    `queries`: under guidance the UNet runs on each image twice, with the prompt and without; keep
        "conditional", "unconditional" (the official OVAM's choice) or "both".
    `self_attention`: resolutions, each the longer side of a grid or (h, w), at which to keep the mean of all
        heads, layers and steps, summed up during the generation: 4·(h·w)² bytes an image.
    `steps`, `blocks`: keep only these (see `Trace.maps`). A step is one pass of the UNet, counted from 0. On
        the first bundled model two of 25, evenly spaced, scored as all did (`ovamnb.evaluation.ablate`).
    `device`, `dtype`: where and how queries are kept. In float16 Stable Diffusion 1.5 takes 23 MB a step
        and image, SDXL 210 MB.
    `guidance`: only for a denoising loop written by hand whose batch has several entries: True for
        [unconditional…, conditional…], False where each is an image. A pipeline says it itself.

    The image is the same, bit for bit, as without recording, and the hooks are removed at the end. After an
    exception the trace is empty. A `torch.compile`d model runs uncompiled meanwhile: hooks added to
    compiled code would never run.

    Warns after the first step if the queries of all steps will not fit into the memory that is free. Raises
    ValueError for a model or options that cannot be recorded, TypeError for arguments of a wrong kind;
    during the generation, ValueError for a second one and for a pipeline that denoises one picture in several
    views, and RuntimeError where a cache or another patch skips attention.
    """
    checks.one_of("queries", queries, HALVES)
    if guidance is not None:
        checks.flag("guidance", guidance)
    recorder = _Recorder()
    recorder.unet = unet_of(pipe)
    recorder.halves = HALVES[queries]
    recorder.resolutions = _resolutions(self_attention)
    recorder.wanted_steps, recorder.wanted_blocks = as_steps(steps), as_blocks(blocks)
    recorder.place = {"device": find_device(device), "dtype": find_dtype(dtype)}
    recorder.guidance = guidance

    trace = Trace()
    try:
        with torch.compiler.set_stance("force_eager"), recorder.attached():
            yield trace
    finally:
        recorder.call = None  # a frame keeps all local variables of the pipeline's call alive
    recorder.hand_over(trace)
    trace.text_encoder = TextEncoder.of(pipe)
    trace.model = model_name(pipe)
    if recorder.size and getattr(pipe, "vae", None) is not None:
        trace.image_size = tuple(side * factor(pipe) for side in recorder.size[1:])


def _resolutions(self_attention: int | Sequence[int | Grid]) -> tuple[int | Grid, ...]:
    if checks.is_list(self_attention):
        return tuple(map(as_resolution, self_attention))
    return (as_resolution(self_attention),)


class _Recorder:
    """The hooks, and what they have recorded so far."""

    def __init__(self):
        self.blocks: dict[str, Block] = {}
        self.queries = defaultdict(lambda: defaultdict(list))  # half → block → [(image, h·w, head·head_dim)]
        self.key_weights: dict[str, Tensor] = {}  # block → (dim + 1, head·head_dim)
        self.sums: dict[Grid, Tensor] = {}  # (image, h·w, h·w)
        self.layers = Counter()  # grid → how many maps its sum holds
        self.grids: dict[str, Grid] = {}  # attention → its grid in the latest pass
        self.steps: dict[int, float] = {}  # number of a kept pass → its timestep
        self.passes = 0
        self.size = None  # images, latent h, latent w
        self.timestep, self.repeats = float("inf"), 0
        self.call = None  # the frame of the pipeline's call: kept, since another could take its address
        self.in_pass = self.keeping = False

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
        if self.in_pass:
            raise RuntimeError("An earlier generation broke off in this `ov.record`: use a new one.")
        sample = args[0] if args else kwargs["sample"]  # (batch, channel, h, w)
        if sample.ndim != 4:
            raise ValueError(
                f"The UNet's input has the shape {tuple(sample.shape)}: only images are recorded."
            )
        timestep = torch.as_tensor(args[1] if len(args) > 1 else kwargs["timestep"]).flatten()[0].item()
        pipeline, call = running_call(unet)
        self.expected = getattr(pipeline, "num_timesteps", None) or 0  # passes of this generation
        layout = batch_layout(pipeline, sample, self.guidance)
        images = len(sample) // len(layout)
        size = (images, *sample.shape[-2:])
        if (self.size or size) != size or (self.passes and call is not self.call):
            raise ValueError(
                "A second generation began in one `ov.record`: use one `with` for each, or give the pipeline "
                "all prompts in one list."
            )
        self.repeats = self.repeats + 1 if timestep == self.timestep else 1
        if pipeline and (timestep > self.timestep or self.repeats > _planned(pipeline, timestep)):
            raise ValueError(
                f"{type(pipeline).__name__} runs its UNet at timestep {timestep:g} after {self.timestep:g}, "
                "as panoramas do, once for each view: only passes that lead step by step from noise to one "
                "picture can be recorded."
            )
        self.call = call
        self.parts = {part: slice(i * images, (i + 1) * images) for i, part in enumerate(layout)}
        for half in self.halves:
            if half not in self.parts:
                raise ValueError(f"There are no {half} queries: this image is made without guidance.")
        self.size, self.timestep, self.in_pass, self.fired = size, timestep, True, Counter()
        self.keeping = self.wanted_steps is None or self.passes in self.wanted_steps
        if self.keeping:
            self.steps[self.passes] = timestep

    def on_transformer(self, names: list[str], transformer: nn.Module, args: tuple, kwargs: dict) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (batch, channel, h, w)
        self.grids |= dict.fromkeys(names, tuple(hidden.shape[-2:]))

    def kept_grid(self, name: str, query: Tensor) -> Grid | None:
        """The grid (h, w) of `query` (batch, h·w, head·head_dim); None in a pass that is not recorded."""
        if not (self.in_pass and self.keeping):
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
            self.key_weights[name] = key_weight(attn, query).to(self.place["device"])
        for half in self.halves:
            # A copy: a view would keep the whole batch of activations alive.
            self.queries[half][name].append(query[self.parts[half]].to(**self.place, copy=True))

    @torch.no_grad()
    def on_self_attention(self, name: str, attn, to_q: nn.Module, inputs: tuple, query: Tensor) -> None:
        grid = self.kept_grid(name, query)
        if grid is None or not any(on_grid(resolution, grid) for resolution in self.resolutions):
            return
        part = self.parts[self.halves[0]]
        query, key = query[part], attn.to_k(inputs[0][part])  # self-attention: both are of the same input
        if grid not in self.sums:
            self.sums[grid] = query.new_zeros(len(query), *[query.shape[1]] * 2, dtype=torch.float32)
        add_self_attention(self.sums[grid], query, key, heads=attn.heads, scale=attn.scale)
        self.layers[grid] += 1

    def on_pass_done(self, unet: nn.Module, args: tuple, output) -> None:
        if self.keeping:
            self.check_pass()
            if len(self.steps) == 1:
                self.warn_of_memory()
        self.passes += 1
        self.in_pass = False

    def check_pass(self) -> None:
        for name in (*self.cross, *self.self_):
            if self.fired[name] != 1:
                raise RuntimeError(
                    f"{name} ran {self.fired[name]} times in step {self.passes}, not once: a step cache or "
                    "another patch is on; switch it off while recording."
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
        kept = [query for blocks in self.queries.values() for [query] in blocks.values()]
        wanted = self.wanted_steps or range(self.expected)
        still = sum(self.passes < step < self.expected for step in wanted)
        need = still * sum(query.numel() * query.element_size() for query in kept)
        free = free_bytes(self.place["device"])
        if need > free:
            warnings.warn(
                f"This recording will take {need / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free: keep "
                "fewer steps (`steps=range(5, 15)`), fewer blocks (`blocks='up'`) or one prompt.",
                stacklevel=2,
            )

    def hand_over(self, trace: Trace) -> None:
        if self.in_pass:  # the generation broke off, and the caller caught the exception
            return
        # Under torch.inference_mode the hooks made tensors that could not enter an optimisation later.
        with torch.inference_mode(False), torch.no_grad():
            for half, blocks in self.queries.items():
                trace.queries[half] = {name: torch.stack(blocks.pop(name)) for name in list(blocks)}
            trace.key_weights = {name: weight.clone() for name, weight in self.key_weights.items()}
            for grid, total in self.sums.items():
                trace.affinities[grid] = (total / self.layers[grid]).to(self.place["device"])
        trace.blocks = self.blocks
        trace.steps, trace.timesteps = tuple(self.steps), tuple(self.steps.values())
        trace.images = self.size[0] if self.size else 0


def _planned(pipeline, timestep: float) -> float:
    """How often the scheduler has this timestep, since two-step methods repeat some; infinite where it does
    not have it."""
    planned = getattr(getattr(pipeline, "scheduler", None), "timesteps", None)
    found = 0 if planned is None else torch.as_tensor(planned).tolist().count(timestep)
    return found or float("inf")
