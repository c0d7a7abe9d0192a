"""Peak memory of recording beside the weights, each way in a process of its own: part of `make bench`.

python -m workshop.bench.peaks sd15 self-attention     # one line of JSON, in bytes

"sd15" is a UNet of Stable Diffusion 1.5's shape with random weights: what it costs does not depend on them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Thread

import psutil
import torch

from ovamnb.recorder import record

from .shapes import pipeline

SHAPES = ("bundled", "sd15")
WAYS = ("plain", "queries", "self-attention")
PASSES = 3  # more would add queries, and nothing to the peak of self-attention


def measure(shape: str, way: str) -> dict[str, float]:
    """Bytes that PASSES passes of the UNet take at their peak beside the weights, in this process; and what a
    stack of all self-attention maps of the finest grid would take."""
    pipe = pipeline(shape)
    tokens = pipe.tokenizer.model_max_length
    unet, config = pipe.unet, pipe.unet.config
    side = config.sample_size
    latents = torch.randn(1, config.in_channels, side, side, device=unet.device)
    states = torch.randn(1, tokens, config.cross_attention_dim, device=unet.device)
    kept = (side,) if way == "self-attention" else ()
    recording = nullcontext() if way == "plain" else record(pipe, self_attention=kept, guidance=False)

    with peak_memory(unet.device) as taken, torch.no_grad(), recording:
        for _ in range(PASSES):
            unet(latents, 100, encoder_hidden_states=states)
    heads = [
        module.heads
        for name, module in unet.named_modules()
        if name.endswith("attn1") and on_finest_grid(name, config.block_out_channels)
    ]
    return {"peak": taken(), "stack": 4 * PASSES * sum(heads) * (side * side) ** 2}


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Bytes at the peak so far less bytes at the start; of the whole block when called after it.

    On the CPU the process is looked at every millisecond: what the system keeps as its peak would include the
    loading of the model.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    process, done = psutil.Process(), Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield lambda: peak - before
    finally:
        done.set()
        watcher.join()


def on_finest_grid(name: str, widths: tuple[int, ...]) -> bool:
    """Does the module lie on the latents' own grid?"""
    return name.startswith(("down_blocks.0.", f"up_blocks.{len(widths) - 1}."))


def print_peaks() -> None:
    """A row for each shape and way; minutes and some gigabytes for SD 1.5's."""
    print(f"\npeak memory of {PASSES} UNet passes beside the weights, MB")
    for shape in SHAPES:
        found = {}
        for way in WAYS:
            command = [sys.executable, "-m", "workshop.bench.peaks", shape, way]
            found[way] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout
            )
            print(f"{shape:<10}{way:<18}{found[way]['peak'] / 1e6:9.0f}", flush=True)
        print(f"{'':<10}{'all maps kept':<18}{found[way]['stack'] / 1e6:9.0f} more (computed)")


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
