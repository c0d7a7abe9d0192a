"""How much memory is left where a recording goes."""

from __future__ import annotations

import os

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """What can still be taken on `device`; on a shared server no more than it grants (MEM_LIMIT, as on
    Binder)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    if limit := os.environ.get("MEM_LIMIT"):
        free = min(free, int(limit) - psutil.Process().memory_info().rss)
    return max(0, free)
