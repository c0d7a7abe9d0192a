"""Exercise 09.b: the ways in which a head is silenced wrongly, and the check that knows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..intervene.silencing import silenced
from .exercises import Exercise
from .silent_head import (
    BEHIND,
    BOTH,
    FIRST_ROW,
    FROM_FRONT,
    IN_PLACE,
    LEFT,
    LEFT_AFTER_ERROR,
    NOTHING,
    ONCE,
    OTHERS,
    STRIDED,
    SWALLOWED,
    WRONG_HALF,
    cases,
    quiet,
    watch,
)


def _zeroing(rows: Callable[[int], slice], channels: Callable[[int, int, int], slice]) -> Callable:
    """A way of silencing: which rows of how many, and which channels of (head, dim, heads), become zero."""

    def answer(attn: nn.Module, head: int, run: Callable) -> Any:
        def hook(module: nn.Module, inputs: tuple) -> Tensor:
            said = inputs[0].clone()
            said[rows(len(said)), :, channels(head, said.shape[-1] // attn.heads, attn.heads)] = 0
            return said

        with attn.to_out[0].register_forward_pre_hook(hook):
            return run()

    return answer


def _second(count: int) -> slice:
    return slice(count // 2, None)


def _own(head: int, dim: int, heads: int) -> slice:
    return slice(head * dim, (head + 1) * dim)


def _in_place(attn: nn.Module, head: int, run: Callable) -> Any:
    def hook(module: nn.Module, inputs: tuple) -> None:
        inputs[0][_second(len(inputs[0])), :, _own(head, inputs[0].shape[-1] // attn.heads, attn.heads)] = 0

    with attn.to_out[0].register_forward_pre_hook(hook):
        return run()


def _returning_nothing(attn: nn.Module, head: int, run: Callable) -> Any:
    with attn.to_out[0].register_forward_pre_hook(lambda module, inputs: None):
        return run()


def _behind(attn: nn.Module, head: int, run: Callable) -> Any:
    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        dim = max(1, output.shape[-1] // attn.heads)
        output = output.clone()
        output[_second(len(output)), :, _own(head, dim, attn.heads)] = 0
        return output

    with attn.to_out[0].register_forward_hook(hook):
        return run()


def _all_but_one(attn: nn.Module, head: int, run: Callable) -> Any:
    def hook(module: nn.Module, inputs: tuple) -> Tensor:
        said = inputs[0]
        others = [other for other in range(attn.heads) if other != head]
        return silenced(said, others, heads=attn.heads, rows=range(len(said) // 2, len(said)))

    with attn.to_out[0].register_forward_pre_hook(hook):
        return run()


def _leaving(attn: nn.Module, head: int, run: Callable, *, after: bool = False) -> Any:
    def hook(module: nn.Module, inputs: tuple) -> Tensor:
        said = inputs[0]
        return silenced(said, [head], heads=attn.heads, rows=range(len(said) // 2, len(said)))

    handle = attn.to_out[0].register_forward_pre_hook(hook)
    given = run()
    if after:
        handle.remove()
    return given


def _swallowing(attn: nn.Module, head: int, run: Callable) -> Any:
    try:
        return quiet(attn, head, run)
    except Exception:
        return 0


SILENCING = Exercise(
    name="09.b",
    title="silence one head, from nothing",
    stars=2,
    cases=cases,
    right=quiet,
    watch=watch,
    ideas={
        ONCE: lambda attn, head, run: (run(), quiet(attn, head, run))[1],
        IN_PLACE: _in_place,
        NOTHING: _returning_nothing,
        STRIDED: _zeroing(_second, lambda head, dim, heads: slice(head, None, heads)),
        FROM_FRONT: _zeroing(_second, lambda head, dim, heads: slice(0, (head + 1) * dim)),
        BOTH: _zeroing(lambda count: slice(None), _own),
        WRONG_HALF: _zeroing(lambda count: slice(0, count // 2), _own),
        FIRST_ROW: _zeroing(lambda count: slice(count - 1, None), _own),
        BEHIND: _behind,
        OTHERS: _all_but_one,
        LEFT: _leaving,
        LEFT_AFTER_ERROR: lambda attn, head, run: _leaving(attn, head, run, after=True),
        SWALLOWED: _swallowing,
    },
    says="One head, one half, nothing left behind: that is what `intervene.silence` does.",
    otherwise="Let the hook return a clone of inputs[0], with one slice of rows and channels set to 0.",
)
