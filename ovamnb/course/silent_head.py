"""One head silenced, from nothing: the right way, and a small attention whose calls notice the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..intervene.silencing import silenced
from .comparing import same
from .listening import LEFT_AFTER_ERROR, RIGHT, SWALLOWED, UNKNOWN, Broken


def quiet(attn: nn.Module, head: int, run: Callable[[], Any]) -> Any:
    """What `run()` gives while one head of `attn` says nothing, in the conditional half alone.

    image = quiet(attention, 1, lambda: pipe("a cat").images[0])
    """

    def hook(module: nn.Module, inputs: tuple) -> Tensor:
        said = inputs[0].clone()  # (batch, h·w, head·head_dim): the unconditional half comes first
        dim = said.shape[-1] // attn.heads
        said[len(said) // 2 :, :, head * dim : (head + 1) * dim] = 0
        return said

    handle = attn.to_out[0].register_forward_pre_hook(hook)
    try:
        return run()
    finally:
        handle.remove()


class SmallAttention(nn.Module):
    """What diffusers' attention is at its end: heads side by side, then `to_out[0]`, with a bias."""

    def __init__(self, heads: int, dim: int, inner: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.to_out = nn.ModuleList([nn.Linear(heads * dim, inner), nn.Dropout(0.0)])
        for weight in self.to_out.parameters():
            weight.data = torch.randn(weight.shape, generator=generator)

    def forward(self, said: Tensor) -> Tensor:
        """`said` (batch, h·w, head·head_dim) → (batch, h·w, inner); batch: unconditional, conditional."""
        return self.to_out[1](self.to_out[0](said))


class Passes:
    """What is to be run: a few passes of a small attention. It notes what they give, and whether what the
    heads had said was overwritten; with `breaks`, it ends in an error."""

    def __init__(self, attn: SmallAttention, said: list[Tensor], *, breaks: bool = False) -> None:
        self.attn, self.said, self.breaks = attn, said, breaks
        self.results: list[Tensor] = []
        self.overwritten = False

    def __call__(self) -> Tensor:
        for one in self.said:
            given = one.clone()
            self.results.append(self.attn(given).detach())
            self.overwritten |= not torch.equal(given, one)
            if self.breaks:
                raise Broken
        return self.results[-1]


ONCE = "`run()` should be called exactly once: it draws the picture."
IN_PLACE = (
    "You changed the heads' answers where they lie. Whoever else holds that tensor, such as a recorder, now "
    "reads zeros, too. Clone it, change the clone and return it."
)
NOTHING = (
    "Nothing changed. A pre-hook that returns nothing leaves the input as it was: return the changed tensor."
)
STRIDED = (
    "You took every n-th channel (`head::heads`). The channels of one head lie side by side: head i has "
    "those from i·head_dim to (i + 1)·head_dim."
)
FROM_FRONT = "You silenced all heads up to this one: the slice has to begin at head·head_dim."
BOTH = (
    "Both halves are silenced. The unconditional half reads no prompt, and guidance pushes away from it: "
    "leave the first half of the batch as it is."
)
WRONG_HALF = (
    "You silenced the unconditional half. It is the first half of the batch, the conditional the second."
)
FIRST_ROW = (
    "Only one row of the batch is silent: there may be several pictures, and half of all rows are theirs."
)
BEHIND = (
    "You set channels of what `to_out` puts out to zero. There the heads are mixed already: change what goes "
    "in, with register_forward_pre_hook."
)
OTHERS = "You silenced all heads but this one."
LEFT = "The hook is still there, and every later picture is changed, too: keep the handle and remove it."


def cases(generator: torch.Generator) -> list[tuple[SmallAttention, int, Passes]]:
    """(attention, head, run): unequal numbers of heads, channels and pictures."""
    made = []
    for heads, dim, inner, images, places, head in ((3, 4, 5, 2, 6, 1), (4, 2, 8, 3, 15, 2)):
        attn = SmallAttention(heads, dim, inner, generator)
        said = [torch.randn(2 * images, places, heads * dim, generator=generator) for _ in range(3)]
        made.append((attn, head, Passes(attn, said)))
    return made


def _meant(attn: SmallAttention, head: int, said: Tensor) -> dict[str, Tensor]:
    """What `to_out[0]` should get, by RIGHT and by each known idea about what to set to zero."""
    half, dim = len(said) // 2, said.shape[-1] // attn.heads
    rows = range(half, len(said))

    def zero(where: Any, which: Any) -> Tensor:
        changed = said.clone()
        changed[where, :, which] = 0
        return changed

    own, second = slice(head * dim, (head + 1) * dim), slice(half, None)
    others = [other for other in range(attn.heads) if other != head]
    return {
        RIGHT: silenced(said, [head], heads=attn.heads, rows=rows),
        NOTHING: said,
        STRIDED: zero(second, slice(head, None, attn.heads)),
        FROM_FRONT: zero(second, slice(0, (head + 1) * dim)),
        BOTH: zero(slice(None), own),
        WRONG_HALF: zero(slice(0, half), own),
        FIRST_ROW: zero(slice(len(said) - 1, None), own),
        OTHERS: silenced(said, others, heads=attn.heads, rows=rows),
    }


def _of_results(attn: SmallAttention, head: int, run: Passes, results: list[Tensor]) -> str:
    """RIGHT, or the known idea that these results follow; UNKNOWN for none."""
    linear = attn.to_out[0]
    found = [_meant(attn, head, said) for said in run.said]
    for idea in found[0]:
        right = [nn.functional.linear(each[idea], linear.weight, linear.bias) for each in found]
        if same(results, right, 1e-4):
            return idea
    half = len(run.said[0]) // 2
    plain = [nn.functional.linear(said, linear.weight, linear.bias) for said in run.said]
    unchanged = all(same(one[:half], other[:half], 1e-4) for one, other in zip(results, plain, strict=True))
    zeros = all((one[half:] == 0).all(dim=1).any() for one in results)
    return BEHIND if unchanged and zeros else UNKNOWN


def _hooks(attn: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in attn.modules())


@torch.no_grad()
def watch(answer: Callable, attn: SmallAttention, head: int, run: Passes) -> str | None:
    """Let `answer` silence one run that ends well and one that breaks off: the known idea that it follows,
    UNKNOWN or RIGHT; None where it gives nothing back and never ran."""
    run.results, run.overwritten = [], False
    try:
        given = answer(attn, head, run)
        if not run.results:
            return None if given is None or given is Ellipsis else ONCE
        if len(run.results) != len(run.said):
            return ONCE
        if run.overwritten:
            return IN_PLACE
        problem = _of_results(attn, head, run, run.results)
        if problem != RIGHT:
            return problem
        if _hooks(attn):
            return LEFT
        try:
            answer(attn, head, Passes(attn, run.said, breaks=True))
        except Broken:
            return LEFT_AFTER_ERROR if _hooks(attn) else RIGHT
        return SWALLOWED
    finally:
        for part in attn.modules():
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
