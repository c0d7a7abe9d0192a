"""What the UNet's batch holds: under guidance, more than one entry for each image."""

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
            f"The UNet is called by hand with {len(sample)} rows: say ov.record(pipe, guidance=True) if they "
            "are [unconditional…, conditional…], guidance=False if each row is an image."
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
