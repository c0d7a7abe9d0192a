"""Rows that take turns, and the ratios of their times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes, what it left to do on a GPU included."""
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(rows: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median seconds of each row; the rows take turns, so that a busy moment hits all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for action in rows.values():  # once for nothing: caches, lazy imports
        action()
    for _ in range(repeat):
        for name, action in rows.items():
            seconds[name].append(timed(action))
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_ratios(seconds: dict[str, float]) -> None:
    """Seconds, and how often the first row goes into each."""
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"{name:<34}{value:9.3f} s{value / first:9.2f} ×", flush=True)


def copy_bandwidth(device: torch.device, size: int = 2**27) -> float:
    """Bytes a second that a plain copy reads and writes: what a computation can ask for at most."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * size / min(timed(lambda: target.copy_(source)) for _ in range(5))
