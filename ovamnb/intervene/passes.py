"""What all interventions share: which blocks, steps, halves and images of a generation are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..layout import Generation, running_call
from ..plumbing import checks
from ..select import Blocks, Grid, as_blocks, as_steps, chosen, select, show_steps
from ..unet import attentions, transformers, unet_of

HALVES = {
    "conditional": ("conditional",),
    "unconditional": ("unconditional",),
    "both": ("unconditional", "conditional"),
}
LAYERS = ("cross", "self", "both")


class Passes:
    """The UNet's passes while an intervention is on, and what of them it changes.

        with passes(pipe, blocks=32, steps=range(10)) as now:
            for name, attn in now.layers("cross").items():
                now.on_output(attn.to_v, hook, name)      # hook(rows, output) → another output

    `generation`: the running one, see `ovamnb.layout.Generation`; `sample`: what the UNet got in this pass,
    (batch, channel, h, w). A hook gets the rows of the batch that are to be changed, and is not called where
    there are none. It runs before every hook that is there already, so that a recorder sees what it did; what
    a recorder asks of a layer meanwhile, its weights, has no batch and is left as it is.
    """

    def __init__(
        self,
        pipe,
        *,
        blocks: Blocks | None = None,
        steps: int | Iterable[int] | None = None,
        images: int | Iterable[int] | None = None,
        halves: str = "conditional",
        guidance: bool | None = None,
    ) -> None:
        self.pipe, self.unet = pipe, unet_of(pipe)
        self.blocks, self.steps = as_blocks(blocks), as_steps(steps)
        self.images = None if images is None else _numbers("images", images)
        self.halves = HALVES[checks.one_of("halves", halves, HALVES)]
        self.guidance = None if guidance is None else checks.flag("guidance", guidance)
        self.cross, self.self_ = attentions(self.unet, True)
        self.generation: Generation | None = None
        self.sample: Tensor | None = None
        self.grids: dict[str, Grid] = {}  # attention → its grid in the latest pass
        self.begun: list[Callable[[], None]] = []  # what to check in the first pass of each generation
        self.hooks = ExitStack()

    def layers(self, which: str) -> dict[str, nn.Module]:
        """The cross- or self-attentions by name, or both; which of them `blocks` means is known in a pass."""
        checks.one_of("attention", which, LAYERS)
        return (self.cross if which != "self" else {}) | (self.self_ if which != "cross" else {})

    def on_output(self, module: nn.Module, change: Callable[[list[int], Tensor], Tensor], name: str) -> None:
        """`change(rows, output)` takes the place of what `module` puts out, in the attention of this name."""

        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
            rows = self.rows(name) if output.ndim == 3 else []
            return change(rows, output) if rows else None

        self.hooks.enter_context(module.register_forward_hook(hook, prepend=True))

    def on_input(self, module: nn.Module, change: Callable[[list[int], Tensor], Tensor], name: str) -> None:
        """`change(rows, input)` takes the place of what `module` gets."""

        def hook(module: nn.Module, inputs: tuple) -> tuple | None:
            rows = self.rows(name) if inputs[0].ndim == 3 else []
            return (change(rows, inputs[0]), *inputs[1:]) if rows else None

        self.hooks.enter_context(module.register_forward_pre_hook(hook, prepend=True))

    def rows(self, name: str) -> list[int]:
        """The rows of the batch to change in this attention, in the running pass; [] for none."""
        now = self.generation
        if now is None or not now.running or (self.steps is not None and now.passes not in self.steps):
            return []
        if name in self.grids and not chosen(self.blocks, name, self.grids[name]):
            return []
        starts = [now.parts[half].start for half in self.halves if half in now.parts]
        return [start + image for start in starts for image in self.images or range(now.size[0])]

    def expected(self) -> int:
        """How many passes the running generation has; ValueError where nobody says."""
        planned = self.generation.expected or len(getattr(self.pipe.scheduler, "timesteps", ()))
        if not planned:
            raise ValueError(
                "How many steps this loop will take is not known, so neither is a part of them: call "
                "`pipe.scheduler.set_timesteps` before it."
            )
        return planned

    @contextmanager
    def attached(self) -> Iterator[Passes]:
        """The hooks that were asked for, and those that count passes, removed at the end. A compiled model
        runs uncompiled meanwhile: hooks added to compiled code would never run."""
        with torch.compiler.set_stance("force_eager"), self.hooks as hooks:
            for transformer, names in transformers(self.unet).items():
                hook = partial(self._on_transformer, names)
                hooks.enter_context(transformer.register_forward_pre_hook(hook, with_kwargs=True))
            hooks.enter_context(self.unet.register_forward_pre_hook(self._on_pass, with_kwargs=True))
            hooks.enter_context(self.unet.register_forward_hook(self._on_pass_done))
            try:
                yield self
            finally:
                self.generation = None  # its frame keeps all local variables of the pipeline's call alive

    def _on_pass(self, unet: nn.Module, args: tuple, kwargs: dict) -> None:
        self.sample = args[0] if args else kwargs["sample"]
        _, call = running_call(unet)
        was = self.generation
        if was is None or was.running or call is not was.call:  # one broke off, or another one begins
            self.generation = Generation(None, (), guidance=self.guidance)
        self.generation.begin(unet, self.sample, args[1] if len(args) > 1 else kwargs["timestep"])
        if self.generation.passes == 0:
            self._check()
            for check in self.begun:
                check()

    def _on_transformer(self, names: list[str], transformer: nn.Module, args: tuple, kwargs: dict) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (batch, channel, h, w)
        self.grids |= dict.fromkeys(names, tuple(hidden.shape[-2:]))

    def _on_pass_done(self, *_) -> None:
        if self.generation.passes == 0 and self.blocks is not None:
            select(self.blocks, self.grids)  # ValueError where a choice matches none
        self.generation.end()
        self.sample = None

    def _check(self) -> None:
        now = self.generation
        count = now.size[0]
        beyond = [image for image in self.images or () if image >= count]
        if beyond:
            raise ValueError(
                f"Image {beyond[0]} is to be changed, and this generation has {count}, counted from 0."
            )
        if not any(half in now.parts for half in self.halves):
            raise ValueError(
                f"There is no {self.halves[0]} half to change: this image is made without guidance."
            )
        if self.steps is not None and now.expected and self.steps[-1] >= now.expected:
            raise ValueError(
                f"Step {show_steps(self.steps[-1:])} is to be changed, and this generation has "
                f"{now.expected}, counted from 0."
            )

    def prompts(self) -> list[str] | None:
        """The prompt of each image as the pipeline was given them; None where that is not known: embeddings,
        or a denoising loop written by hand."""
        said = {} if self.generation.call is None else self.generation.call.f_locals
        given = said.get("prompt")
        given = [given] if isinstance(given, str) else given
        if not given or not all(isinstance(text, str) for text in given):
            return None
        each, rest = divmod(self.generation.size[0], len(given))
        return None if rest else [text for text in given for _ in range(each)]

    def require_prompt(self, prompt: str, images: Sequence[int] | None = None) -> None:
        """ValueError where a pipeline draws one of the images (None: those to be changed) from another
        one."""
        given = self.prompts()
        for image in (self.images or range(len(given))) if images is None and given else images or ():
            if given and image < len(given) and given[image] != prompt:
                raise ValueError(
                    f"The words were looked up in '{prompt}', and image {image} is drawn from "
                    f"'{given[image]}': give that prompt, or say by images= which of them are meant."
                )


def _numbers(name: str, value) -> tuple[int, ...]:
    given = list(value) if checks.is_list(value) else [value]
    if not given:
        raise ValueError(f"{name}=[] names none: leave it out for all.")
    return tuple(dict.fromkeys(checks.whole(name, one, 0, why="are counted from 0") for one in given))
