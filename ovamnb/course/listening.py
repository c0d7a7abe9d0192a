"""Exercise 02.b: a recorder from nothing. It is run on a small module whose calls notice all that it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .comparing import same
from .exercises import Exercise


def listen(layer: nn.Module, run: Callable[[], Any]) -> list[Tensor]:
    """Everything that `layer` puts out while `run()` runs once, call by call; nothing else changes.

    caught = listen(attention.to_q, lambda: pipe("a cat"))
    """
    caught: list[Tensor] = []

    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        caught.append(output.detach().clone())

    handle = layer.register_forward_hook(hook)
    try:
        run()
    finally:
        handle.remove()
    return caught


class Small(nn.Module):
    """A layer `to_q` of no square shape, and something behind it that overwrites what the layer put out."""

    def __init__(self, dim: int, inner: int, generator: torch.Generator) -> None:
        super().__init__()
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_q.weight = nn.Parameter(torch.randn(inner, dim, generator=generator))

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` (batch, h·w, dim) → (batch, h·w, inner)"""
        query = self.to_q(hidden)
        result = torch.tanh(query)
        query.zero_()
        return result


class Broken(Exception):
    """Ends a run after its first call."""


class Run:
    """What a recorder is to run: a few calls of a small module. It notes what they give, and whether
    `forward` was replaced meanwhile; with `breaks`, it ends in an error."""

    def __init__(self, model: Small, inputs: list[Tensor], *, breaks: bool = False) -> None:
        self.model, self.inputs, self.breaks = model, inputs, breaks
        self.results: list[Tensor] = []
        self.patched = False

    def __call__(self) -> Tensor:
        for one in self.inputs:
            self.results.append(self.model(one).detach())
            self.patched |= "forward" in vars(self.model.to_q) or "forward" in vars(self.model)
            if self.breaks:
                raise Broken
        return self.results[-1]


PATCHED = (
    "You replaced `forward`. That works here, but another recorder may have replaced it too, and each puts "
    "back what it found. Register a forward hook."
)
CHANGED = (
    "The model's output is another one while you listen: what a hook returns takes the place of the layer's "
    "output. Let yours return nothing."
)
ONCE = "`run()` should be called exactly once: a second generation would start from other noise."
LAST = "Only the last call is kept: the layer runs once in each step, so append every output to a list."
INPUT = (
    "You caught what goes into the layer. A hook gets (module, inputs, output): the queries are the output."
)
OVERWRITTEN = (
    "What you kept was overwritten later: a hook gets the tensor itself, not a copy. Keep a clone of it."
)
GRADIENT = "What you kept still holds the graph for gradients, and with it the memory of a pass: detach it."
LEFT = (
    "The hook is still there: keep the handle that register_forward_hook returns, and remove it in the end."
)
LEFT_AFTER_ERROR = (
    "After an error in run() the hook is still there: put handle.remove() into the `finally` of a `try`."
)
SWALLOWED = "An error in run() should go on to the caller: `try: … finally: …`, without an `except`."
OTHERS = (
    "You removed hooks that are not yours: another recorder may be listening. handle.remove() removes one."
)


RIGHT, UNKNOWN = "nothing to object to", "something else"


def cases(generator: torch.Generator) -> list[tuple[nn.Module, Run]]:
    """A layer, and a run in which it is called several times with (batch, h·w, dim)."""
    made = []
    for dim, inner, places, calls in ((5, 6, 15, 3), (4, 4, 7, 2)):
        model = Small(dim, inner, generator)
        inputs = [torch.randn(2, places, dim, generator=generator) for _ in range(calls)]
        made.append((model.to_q, Run(model, inputs)))
    return made


def watch(answer: Callable, layer: nn.Module, run: Run) -> str | None:
    """Let `answer` listen to one run that ends well and to one that breaks off: the known idea that it
    follows, UNKNOWN or RIGHT; None where it gives nothing back."""
    run.results, run.patched = [], False
    before = [run.model(one).detach() for one in run.inputs]
    layer.register_forward_hook(lambda *_: None)  # somebody else listens, too
    try:
        caught = answer(layer, run)
        if caught is None or caught is Ellipsis:
            return None
        left = len(layer._forward_hooks) - 1
        if run.patched:
            return PATCHED
        if left < 0:
            return OTHERS
        if len(run.results) != len(run.inputs):
            return ONCE
        if not same(run.results, before, 1e-5):
            return CHANGED
        problem = _of_caught(caught, layer, run.inputs)
        if problem:
            return problem
        if left:
            return LEFT
        try:
            answer(layer, Run(run.model, run.inputs, breaks=True))
        except Broken:
            return LEFT_AFTER_ERROR if len(layer._forward_hooks) > 1 else RIGHT
        return SWALLOWED
    finally:
        layer._forward_hooks.clear()
        for module in (layer, run.model):
            vars(module).pop("forward", None)


@torch.no_grad()
def _of_caught(caught: Any, layer: nn.Module, inputs: list[Tensor]) -> str | None:
    """What is wrong with what was caught; None for nothing."""
    right = [nn.functional.linear(one, layer.weight) for one in inputs]
    if not isinstance(caught, list | tuple | Tensor):
        return UNKNOWN
    mine = [caught] if isinstance(caught, Tensor) and caught.shape == right[-1].shape else list(caught)
    if same(mine, right, 1e-4):
        return GRADIENT if any(one.requires_grad for one in mine) else None
    flat = [one[0] if isinstance(one, tuple) and one else one for one in mine]
    if same(flat, inputs, 1e-4) or same(flat, inputs[-1:], 1e-4):
        return INPUT
    if all(isinstance(one, Tensor) and not one.any() for one in mine) and mine:
        return OVERWRITTEN
    return LAST if same(mine, right[-1:], 1e-4) else UNKNOWN


def _hooked(keep: Callable, returns: Callable = lambda output: None) -> Callable:
    """A recorder that keeps and returns something else than `listen`."""

    def recorder(layer: nn.Module, run: Callable) -> list[Tensor]:
        caught: list = []

        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
            keep(caught, inputs, output)
            return returns(output)

        handle = layer.register_forward_hook(hook)
        try:
            run()
        finally:
            handle.remove()
        return caught

    return recorder


def _copied(caught: list, inputs: tuple, output: Tensor) -> None:
    caught.append(output.detach().clone())


def _patching(layer: nn.Module, run: Callable) -> list[Tensor]:
    caught, forward = [], layer.forward

    def patched(hidden: Tensor) -> Tensor:
        caught.append(forward(hidden).detach().clone())
        return forward(hidden)

    layer.forward = patched
    try:
        run()
    finally:
        layer.forward = forward
    return caught


def _leaving(layer: nn.Module, run: Callable) -> list[Tensor]:
    caught: list[Tensor] = []
    layer.register_forward_hook(lambda module, inputs, output: _copied(caught, inputs, output))
    run()
    return caught


def _without_finally(layer: nn.Module, run: Callable) -> list[Tensor]:
    caught: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: _copied(caught, inputs, output))
    run()
    handle.remove()
    return caught


def _swallowing(layer: nn.Module, run: Callable) -> list[Tensor]:
    try:
        return listen(layer, run)
    except Exception:
        return []


def _clearing(layer: nn.Module, run: Callable) -> list[Tensor]:
    caught = listen(layer, run)
    layer._forward_hooks.clear()
    return caught


LISTENING = Exercise(
    name="02.b",
    title="write a recorder from nothing",
    stars=2,
    cases=cases,
    right=listen,
    watch=watch,
    ideas={
        PATCHED: _patching,
        OTHERS: _clearing,
        ONCE: lambda layer, run: (run(), listen(layer, run))[1],
        CHANGED: _hooked(_copied, returns=lambda output: output.detach().round()),
        INPUT: _hooked(lambda caught, inputs, output: caught.append(inputs[0].detach().clone())),
        OVERWRITTEN: _hooked(lambda caught, inputs, output: caught.append(output.detach())),
        LAST: _hooked(lambda caught, inputs, output: (caught.clear(), _copied(caught, inputs, output))),
        GRADIENT: _hooked(lambda caught, inputs, output: caught.append(output.clone())),
        LEFT: _leaving,
        LEFT_AFTER_ERROR: _without_finally,
        SWALLOWED: _swallowing,
    },
    says="You keep every output as it was, change nothing, and leave nothing behind, whatever happens.",
    otherwise="Give back a list with the layer's output of each call: (batch, h·w, inner) tensors.",
)
