"""When two answers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor or array; None for anything else."""
    return tuple(value.shape) if isinstance(value, Tensor | np.ndarray) else None


def same(mine: Any, right: Any, close: float) -> bool:
    """Whether `mine` is `right`: numbers and tensors within `close`, absolute and relative; lists and
    mappings entry by entry; everything else equal. What has another shape or kind is not the same."""
    if isinstance(right, Tensor | np.ndarray):
        try:
            mine, right = (torch.as_tensor(value).detach().cpu() for value in (mine, right))
        except (TypeError, ValueError, RuntimeError):
            return False
        if mine.shape != right.shape:
            return False
        if not (right.dtype.is_floating_point or mine.dtype.is_floating_point):
            return torch.equal(mine.long(), right.long())
        return torch.allclose(mine.double(), right.double(), atol=close, rtol=close, equal_nan=True)
    if isinstance(right, bool):
        return isinstance(mine, bool | np.bool_) and bool(mine) == right
    if isinstance(right, Number):
        if isinstance(mine, Tensor | np.ndarray | np.generic) and np.prod(mine.shape) == 1:
            mine = mine.item()  # a sum in PyTorch is a tensor without dimensions
        if not isinstance(mine, Number) or isinstance(mine, bool):
            return False
        return bool(np.isclose(float(mine), float(right), atol=close, rtol=close, equal_nan=True))
    if isinstance(right, Mapping):
        return (
            isinstance(mine, Mapping)
            and mine.keys() == right.keys()
            and all(same(mine[key], value, close) for key, value in right.items())
        )
    if isinstance(right, list | tuple):
        return (
            isinstance(mine, list | tuple)
            and len(mine) == len(right)
            and all(same(one, other, close) for one, other in zip(mine, right, strict=True))
        )
    return mine == right
