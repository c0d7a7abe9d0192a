"""What public functions require of their arguments: each check raises one sentence, before any work begins.

A wrong kind is a TypeError, a wrong value a ValueError. `why` takes the place of "is" in the sentence:
`whole("power", 0, 1, why="counts completions")` says "power counts completions: a whole number, 1 or more,
not 0."
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from numbers import Real
from operator import index

import numpy as np
import torch
from torch import Tensor

LARGEST = sys.float_info.max
MOST_PIXELS = 2**28  # more than any picture here has, and no more than a gigabyte of float32


def shown(value) -> str:
    """A value for a message: on one line and short, however large it is."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} {tuple(value.shape)} of {value.dtype}"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes out no numbers of thousands of digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"


def number(
    name: str, value, low: float = -math.inf, high: float = math.inf, *, above: bool = False, why: str = ""
) -> float:
    """A finite number from `low` (with `above`, more than it) to `high`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{_head(name, why)} a number{_range(low, high, above)}, not {shown(value)}.")
    if not (abs(value) <= LARGEST and low <= value <= high) or (above and value == low):
        finite = "finite " if not _range(low, high, above) else ""
        raise ValueError(
            f"{_head(name, why)} a {finite}number{_range(low, high, above)}, not {shown(value)}."
        )
    return value


def whole(name: str, value, low: float = -math.inf, high: float = math.inf, *, why: str = "") -> int:
    """A whole number from `low` to `high`, NumPy's too."""
    problem = f"{_head(name, why)} a whole number{_range(low, high)}, not {shown(value)}."
    try:
        if isinstance(value, bool):
            raise TypeError
        found = index(value)
    except TypeError:
        raise TypeError(problem) from None
    if not low <= found <= high:
        raise ValueError(problem)
    return found


def seed(value) -> int:
    """A whole number that PyTorch's generators take for a seed."""
    found = whole("seed", value)
    if not -(2**63) <= found < 2**64:
        raise ValueError(f"seed is a whole number of at most 64 bits, not {found}.")
    return found


def one_of(name: str, value, allowed: Iterable[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, not {shown(value)}.")
    return value


def flag(name: str, value) -> bool:
    """True or False itself, not what Python takes for true or false."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is True or False, not {shown(value)}.")
    return bool(value)


def instance(name: str, value, kinds: type | tuple[type, ...], what: str):
    """An object of a class, which the message describes as `what`."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} is {what}, not {shown(value)}.")
    return value


def function(name: str, value, what: str):
    """A function, which the message describes as `what`, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {what}, or None, not {shown(value)}.")
    return value


def entries(name: str, value, what: str) -> list:
    """A list from any sequence or iterator that is no string; the message calls its entries `what`."""
    if not is_list(value):
        raise TypeError(f"{name} is a list of {what}, not {shown(value)}.")
    return list(value)


def is_list(value) -> bool:
    """Whether a value holds several, as a sequence, an array or an iterator does, and a string does not."""
    return (
        isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) != 0
    )


def size(value, what: str = "a size (h, w) of whole numbers", *, most: int = MOST_PIXELS) -> tuple[int, int]:
    """(h, w), each 1 or more, together at most `most` pixels; the message says to give `what`."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        sides = [int(side) if isinstance(side, float) and side.is_integer() else side for side in value]
        h, w = map(index, sides)
    except (TypeError, ValueError):
        raise TypeError(f"Give {what}, not {shown(value)}.") from None
    if h < 1 or w < 1:
        raise ValueError(f"A size (h, w) is 1 or more each way, not ({h}, {w}).")
    if h * w > most:
        raise ValueError(f"A size (h, w) has at most {most:,} pixels here, not ({h}, {w}).")
    return h, w


def tensor(name: str, value, shape: str) -> Tensor:
    """A tensor of real numbers from a tensor, a NumPy array or nested lists; `shape` is in the message."""
    problem = f"{name} is a tensor or an array of numbers {shape}, not {shown(value)}."
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise TypeError(problem) from None
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        kind = np.dtype(np.float64) if value.dtype.itemsize > 8 else value.dtype.newbyteorder("=")
        native = value.astype(kind, copy=False)
        shared = native.flags.writeable and min(native.strides, default=0) >= 0  # what PyTorch wants
        value = torch.from_numpy(native if shared else native.copy())
    if not isinstance(value, Tensor) or value.dtype.is_complex:
        raise TypeError(problem)
    return value


def finite(name: str, value: Tensor, remedy: str = "record with dtype=torch.float32") -> Tensor:
    """A tensor without infinities and NaN."""
    if not value.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite: {remedy}.")
    return value


def _head(name: str, why: str) -> str:
    return f"{name} {why}:" if why else f"{name} is"


def _range(low: float, high: float, above: bool = False) -> str:
    if low == -math.inf and high == math.inf:
        return ""
    lowest, highest = (f"{side:,.0f}" if 1e5 <= side < math.inf else f"{side:g}" for side in (low, high))
    if high == math.inf:
        return f" above {lowest}" if above else f", {lowest} or more"
    return f" above {lowest}, at most {highest}" if above else f" from {lowest} to {highest}"
