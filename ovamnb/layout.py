"""One generation as the UNet meets it: its passes, and what their batches hold. Under guidance that is more
than one entry for each image."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from types import FrameType

import torch
from torch import Tensor, nn

from .unet import unwrapped

SECOND = (
    "A second generation began in one `ov.record`: use one `with` for each, or give the pipeline all prompts "
    "in one list."
)


class Generation:
    """The UNet's passes in one generation: which one runs, and where in its batch each half stands.

        generation = Generation(steps=(10, 11), halves=("conditional",))
        generation.begin(unet, sample, timestep)     # before each pass: `sample` (batch, channel, h, w)
        query[generation.parts["conditional"]]       # (image, h·w, head·head_dim)
        generation.end()                             # after it

    `passes`: how many have ended; `expected`: how many there will be, 0 where nobody says; `size` (images,
    latent h, latent w), None before the first; `keeping`: whether the running pass is one of `steps`; `kept`:
    the numbers of those that were, and their timesteps.

    `begin` raises ValueError for a second generation, for passes that do not lead step by step from noise to
    one picture, for steps beyond the last, and for a batch whose layout is unknown.
    """

    def __init__(
        self,
        steps: tuple[int, ...] | None,
        halves: tuple[str, ...],
        *,
        guidance: bool | None = None,
        negative: bool = False,
    ) -> None:
        self.steps, self.halves, self.guidance, self.negative = steps, halves, guidance, negative
        self.passes = self.expected = 0
        self.size: tuple[int, int, int] | None = None
        self.parts: dict[str, slice] = {}
        self.kept: dict[int, float | Tensor] = {}
        self.running = self.keeping = False
        self.call: FrameType | None = None  # kept, since another frame could take its address
        self._shape: torch.Size | None = None
        self._given: object = None  # the timestep of the latest pass, as the UNet got it

    def begin(self, unet: nn.Module, sample: Tensor, timestep: float | Tensor) -> None:
        """Another pass; what makes a GPU wait, by reading a value, is done in the first one alone."""
        if self.running:
            raise RuntimeError("An earlier generation broke off in this `ov.record`: use a new one.")
        if sample.ndim != 4:
            raise ValueError(
                f"The UNet's input has the shape {tuple(sample.shape)}: only images are recorded."
            )
        pipeline, call = running_call(unet)
        if self.size is None:
            self.call = call
            self._arrange(pipeline, sample)
            self._check_plan(pipeline)
        elif call is not self.call:
            raise ValueError(SECOND)
        elif sample.shape != self._shape:  # guidance that ends on the way leaves half of the batch
            self._arrange(pipeline, sample)
        elif pipeline and (timestep is self._given or 0 < self.expected <= self.passes):
            [now] = numbers([timestep])
            raise ValueError(
                f"{type(pipeline).__name__} runs its UNet more than once at timestep {now:g}, as "
                "panoramas do, once for each view: only passes that lead step by step from noise to one "
                "picture can be recorded."
            )
        self._given, self.running = timestep, True
        self.keeping = self.steps is None or self.passes in self.steps
        if self.keeping:  # a clone, since a loop may count in place
            self.kept[self.passes] = timestep.detach().clone() if isinstance(timestep, Tensor) else timestep

    def end(self) -> None:
        self.passes += 1
        self.running = False

    @property
    def count(self) -> int | None:
        """How many passes will be kept; None where that is not known."""
        return len(self.steps) if self.steps else self.expected or None

    @property
    def still(self) -> int:
        """How many passes after the running one will be kept, as far as that is known."""
        return sum(self.passes < step < self.expected for step in self.steps or range(self.expected))

    def _arrange(self, pipeline, sample: Tensor) -> None:
        layout = batch_layout(pipeline, sample, self.guidance)
        images = len(sample) // len(layout)
        size = (images, *sample.shape[-2:])
        if (self.size or size) != size:
            raise ValueError(SECOND)
        self._shape, self.size = sample.shape, size
        self.parts = {part: slice(i * images, (i + 1) * images) for i, part in enumerate(layout)}
        for half in self.halves:
            if half not in self.parts:
                raise ValueError(f"There are no {half} queries: this image is made without guidance.")

    def _check_plan(self, pipeline) -> None:
        said = {} if self.call is None else self.call.f_locals
        named = said.get("negative_prompt") or said.get("negative_prompt_2")
        if self.negative and said.get("prompt") is not None and not named:
            raise ValueError(
                "There are no negative queries: give the pipeline a text as negative_prompt, or record "
                "queries='unconditional'."
            )
        self.expected = planned_timesteps(pipeline)
        if self.steps and self.expected and self.steps[-1] >= self.expected:
            raise ValueError(
                f"Step {self.steps[-1]} is to be recorded, and this generation has {self.expected}, counted "
                "from 0: choose other `steps=`, or let the pipeline take more (from a given image it takes "
                "only a part of them, by its `strength`)."
            )


def running_call(unet: nn.Module) -> tuple[object, FrameType] | tuple[None, None]:
    """The pipeline whose `__call__` is running this UNet, and the frame of that call; (None, None) in a
    denoising loop written by hand.

    A pipeline keeps its guidance scale after a call, so that the object alone would let a later loop by hand
    pass for guided generation. The call stack does not, and also finds img2img on another pipeline's UNet.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "__call__":
            owner = frame.f_locals.get("self")
            if unwrapped(getattr(owner, "unet", None)) is unet and hasattr(
                owner, "do_classifier_free_guidance"
            ):
                return owner, frame
        frame = frame.f_back
    return None, None


def batch_layout(pipeline, sample: Tensor, guidance: bool | None) -> tuple[str, ...]:
    """The parts of a batch, in order, each with one entry per image: `sample` (batch, channel, h, w).

    Raises ValueError where that cannot be known.
    """
    if guidance is not None:
        layout = ("unconditional", "conditional") if guidance else ("conditional",)
    elif pipeline is not None:
        layout = ("unconditional",) * pipeline.do_classifier_free_guidance + ("conditional",)
        layout += ("perturbed",) * bool(getattr(pipeline, "do_perturbed_attention_guidance", False))
    elif len(sample) == 1:
        layout = ("conditional",)
    else:
        raise ValueError(
            f"The UNet is called by hand with {len(sample)} rows: say guidance=True if they are "
            "[unconditional…, conditional…], guidance=False if each row is an image."
        )
    # Guidance gives every part the same latents (or the same NaN); other pipelines have layouts of their own.
    parts = sample.nan_to_num().chunk(len(layout)) if guidance is None else [sample]
    if len(sample) % len(layout) or not all(torch.equal(part, parts[0]) for part in parts):
        raise ValueError(
            f"These {len(sample)} rows are no batch of {' + '.join(layout)}: use a pipeline with plain "
            "classifier-free guidance, or say guidance=True or False for what the rows are."
        )
    return layout


def planned_timesteps(pipeline) -> int:
    """How many passes the running pipeline is to make; 0 where it does not say.

    Raises ValueError where its noise grows in between: those passes do not lead to one picture.
    """
    planned = getattr(getattr(pipeline, "scheduler", None), "timesteps", None)
    if planned is not None:
        planned = torch.as_tensor(planned).flatten().tolist()
        if any(after > before for before, after in itertools.pairwise(planned)):
            raise ValueError(
                f"The timesteps of {type(pipeline).__name__} do not all fall: only passes that lead step by "
                "step from noise to one picture can be recorded."
            )
    return getattr(pipeline, "num_timesteps", None) or len(planned or ())


def numbers(timesteps: Iterable[float | Tensor]) -> tuple[float, ...]:
    """As Python's numbers, read from a device all at once."""
    values = [torch.as_tensor(t).flatten()[0] for t in timesteps]
    alike = len({(value.device, value.dtype) for value in values}) == 1
    return tuple(torch.stack(values).tolist() if alike else (value.item() for value in values))
