"""What a question costs: time and peak memory of maps for few and many tokens, beside the official OVAM's.

python -m workshop.bench.asking sd15 30 8 ours                # one line of JSON: the peak in bytes
python -m workshop.bench.asking sd15 30 8 path/to/ovam        # the authors' peak
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ovamnb.trace import Trace

from .official import ovam_module
from .peaks import peak_memory
from .shapes import UNETS, recorded, states_of
from .timing import compare, copy_bandwidth

COUNTS = (1, 8, 77)


def bench_asking(
    shape: str, steps: int, repeat: int, official: Path | None, *, peaks: bool = True
) -> list[dict[str, float]]:
    """A row for each count of tokens, printed and returned: ours on float16 queries, as recorded, the
    authors' on float32 ones, since that is how a pipeline computes on a CPU, and on float16 ones elsewhere.
    """
    trace = recorded(shape, steps)
    device, names = next(iter(trace.key_weights.values())).device, trace.select()[0]
    size = sum(trace.queries["conditional"][name].nbytes for name in names)
    origin = "random queries of its shape, no UNet was run" if shape in UNETS else "recorded queries"
    print(f"\nmaps, {shape} on {device.type}: {origin}; {steps} steps, {size / 1e6:.0f} MB in float16")
    speed = copy_bandwidth(device)
    module = theirs(trace, official) if official else None
    found = []
    for tokens in COUNTS:
        states = states_of(trace, tokens)
        rows = {"ours": asking(trace, states)}
        if module:
            rows["official"] = asking(module, states)
        seconds = compare(rows, repeat)
        line = f"{tokens:3} tokens   ours {seconds['ours']:8.4f} s"
        line += f" ({size / seconds['ours'] / speed:.1%} of the memory's bandwidth)"
        if module:
            a, b = rows["ours"](), rows["official"]()
            faster, apart = seconds["official"] / seconds["ours"], (a - b).abs().max() / b.abs().max()
            line += (
                f"   official {seconds['official']:8.4f} s   {faster:.2f} × as fast, maps {apart:.0e} apart"
            )
        print(line, flush=True)
        found.append({"tokens": tokens, "seconds": seconds["ours"], "faster": faster if module else math.nan})
        found[-1] |= print_peaks(shape, steps, tokens, official) if peaks else {}
    return found


def print_peaks(shape: str, steps: int, tokens: int, official: Path | None) -> dict[str, float]:
    """Peaks beside the queries, each in a process of its own: printed, and returned in MB."""
    ways = ["ours", *([str(official)] if official else [])]
    peaks = [run_alone(shape, steps, tokens, way) for way in ways]
    line = f"             peak beside the queries: ours {peaks[0] / 1e6:.1f} MB"
    if official:
        line += f", official {peaks[1] / 1e6:.1f} MB"
        if peaks[1] > 2**24:  # less than that a process is not seen to grow by
            line += f": {peaks[0] / peaks[1]:.3f} ×"
    print(line, flush=True)
    return {"peak": peaks[0] / 1e6, "official peak": peaks[1] / 1e6 if official else math.nan}


def run_alone(shape: str, steps: int, tokens: int, way: str) -> int:
    command = [sys.executable, "-m", "workshop.bench.asking", shape, str(steps), str(tokens), way]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["peak"]


def measure(shape: str, steps: int, tokens: int, way: str) -> dict[str, int]:
    """Bytes at the peak of one question, less those before.

    `way`: "ours", or the folder of the authors' code.
    """
    trace = recorded(shape, steps)
    states = states_of(trace, tokens)
    device = states.device
    action = asking(trace if way == "ours" else theirs(trace, Path(way)), states)
    states @ states.T  # loads the library of matrix products, whose workspace is nobody's
    with peak_memory(device) as taken:
        action()
    return {"peak": taken()}


def asking(answerer: Trace | torch.nn.Module, states: Tensor) -> Callable[[], Tensor]:
    """A function that asks a trace, or the authors' module, for the maps (token, h, w) of `states`."""

    @torch.no_grad()
    def ask() -> Tensor:
        if isinstance(answerer, Trace):
            return answerer.maps(states).values
        return answerer(states.to(next(answerer.parameters()).dtype))[0].float()

    return ask


def theirs(trace: Trace, folder: Path) -> torch.nn.Module:
    on_cpu = next(iter(trace.key_weights.values())).device.type == "cpu"
    return ovam_module(trace, folder, dtype=torch.float32 if on_cpu else torch.float16)


if __name__ == "__main__":
    shape, steps, tokens, way = sys.argv[1:]
    print(json.dumps(measure(shape, int(steps), int(tokens), way)))
