"""A pretend accelerator: a device of its own whose tensors are computed on the CPU.

    import accelerator                  # registers "pretend"
    with accelerator.Accelerator():     # calls on its tensors are computed
        pipe.to("pretend")

What fails on a GPU because of a tensor's device fails here too: an operation on tensors of both devices
raises "Expected all tensors to be on the same device". As there, a CPU scalar may join in, a CPU tensor may
be an index, and a copy goes either way. `Accelerator.copies` and `.waits` count what would cost a GPU time:
copies to the host, and reads of a value, which wait for it. A process that has imported this keeps the
device for good.
"""

from __future__ import annotations

import torch
from torch import library as operators
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"


class Module(_DummyBackendModule):
    """What stands under `torch.pretend`, as torch.cuda does: here it has the CPU's random numbers."""

    def get_rng_state(self, device=0):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=0):
        pass


_setup_privateuseone_for_python_backend(NAME, Module())
torch.__future__.set_swap_module_params_on_conversion(
    True
)  # or `module.to` would set `.data`, which cannot change class
HERE = torch.device(NAME, 0)
aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._copy_from.default)
READS = (aten._local_scalar_dense.default, aten.item.default, aten.equal.default, aten.is_nonzero.default)
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


class Remote(torch.Tensor):
    """A tensor that says it is on the accelerator and keeps its values in `held`, on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Remote:
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=HERE, requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held.detach()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **options):
        raise TypeError(f"can't convert {HERE} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *arguments, **options):
        return self.numpy()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else repr(self)

    def __repr__(self, **options) -> str:
        return f"Remote({self.held})"


class Accelerator(TorchDispatchMode):
    """While it is on, tensors can be made on the device; copies to the host and waits for it are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, self)


def remote(value) -> bool:
    return isinstance(value, Remote)


def compute(func, args, kwargs, counter: Accelerator | None = None):
    """One operation, computed on the CPU; its result is on its arguments' device, or where `device` says."""
    flat = [
        value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)
    ]
    far = [value for value in flat if remote(value)]
    asked = kwargs.get("device")
    moves = asked is not None or func in COPIES
    if far and not moves:
        # A CPU tensor may be an index of the device's tensors, and nothing else.
        rest = (args[0], *args[2:]) if func in INDEXED and remote(args[0]) else flat
        near = [value for value in rest if isinstance(value, torch.Tensor) and not remote(value)]
        if any(value.ndim for value in near):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{HERE} and cpu! (in {func})"
            )
    if counter is not None and far:
        counter.waits += func in READS
        counter.copies += asked is not None and torch.device(asked).type == "cpu"
        counter.copies += func in COPIES and not remote(args[0])
    goes = torch.device(asked).type == NAME if asked is not None else bool(far)
    plain = tree_map_only(Remote, lambda tensor: tensor.held, (args, kwargs))
    plain_args, plain_kwargs = plain
    if asked is not None:
        plain_kwargs["device"] = torch.device("cpu")
    found = func(*plain_args, **plain_kwargs)
    if not goes:
        return found
    same = {id(tensor.held): tensor for tensor in far}

    def back(value):
        if not isinstance(value, torch.Tensor):
            return value
        return same.get(id(value)) if id(value) in same else Remote(value)

    return tree_map(back, found)


def empty_strided(size, stride, *, dtype=None, **where) -> Remote:
    return Remote(torch.empty_strided(size, stride, dtype=dtype))


def empty(size, *, dtype=None, memory_format=None, **where) -> Remote:
    return Remote(torch.empty(size, dtype=dtype, memory_format=memory_format))


def copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    plain = source.held if remote(source) else source
    (target.held if remote(target) else target).copy_(plain)
    return target


# What PyTorch calls itself, below the level of the mode.
for _name, _function in {
    "empty_strided": empty_strided,
    "empty.memory_format": empty,
    "_copy_from": copy_from,
}.items():
    operators.impl(f"aten::{_name}", NAME, _function)
