"""What recording costs and what a question costs, as ratios from one run: `python -m ovamnb.bench` (or
`make bench`).

    python -m ovamnb.bench --model sd15 --steps 30 --repeat 5

Every row is the median of `--repeat` runs that take turns, so that a busy moment hits all of them alike.
Seconds depend on the machine; the ratios hardly do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from .bench_memory import print_peaks
from .pipelines import load_pipeline
from .recipe import Recipe
from .recorder import record
from .refine import complete
from .segmentation import segment

PROMPT, QUESTION, WORD = "a cat and a car on grass", "a photograph of a kitten", "kitten"
CLASSES = ("cat", "car", "dog", "tree", "bird", "house", "boat", "horse")


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes, what it left to do on a GPU included."""
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(rows: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median seconds of each row; the rows take turns."""
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
        print(f"{name:<28}{value:9.3f} s{value / first:9.2f} ×")


def bench_recording(pipe, steps: int, repeat: int) -> None:
    """A generation with and without recording; a question; a completion."""

    def generate(recorder=None) -> object:
        with recorder or nullcontext() as trace:
            pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(0))
        return trace

    trace = generate(record(pipe))
    largest = max(max(block.grid) for block in trace.blocks.values())
    full = generate(record(pipe, self_attention=(largest,)))
    heat, affinity = trace.maps(QUESTION)[WORD], full.self_attention(largest)
    rows = {
        f"generate, {steps} steps": generate,
        "… and record queries": lambda: generate(record(pipe)),
        f"… and self-attention at {largest}": lambda: generate(record(pipe, self_attention=(largest,))),
        "ask one text": lambda: trace.maps(QUESTION)[WORD],
        "complete one map": lambda: complete(heat, affinity),
    }
    print_ratios(compare(rows, repeat))
    print(f"a trace holds {trace.nbytes / 1e6:.1f} MB, with self-attention {full.nbytes / 1e6:.1f} MB")


def bench_segmentation(pipe, repeat: int) -> None:
    """DiffSegmenter with a pass of the UNet for each class, as its authors' code has it, and with fewer."""
    image = pipe(PROMPT, num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images[0]

    def cut(**options) -> Callable[[], object]:
        return lambda: segment(pipe, image, CLASSES, recipe=Recipe(), **options)

    rows = {
        f"segment, {len(CLASSES)} passes": cut(batch=1),
        f"… {len(CLASSES)} classes in one batch": cut(batch=len(CLASSES)),
        "… in one text": cut(together=True),
    }
    print()
    print_ratios(compare(rows, repeat))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks: SD 1.5's take minutes")
    given = parser.parse_args(arguments)

    pipe = load_pipeline(given.model)
    pipe.set_progress_bar_config(disable=True)
    print(
        f"{given.model} on {pipe.device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    bench_recording(pipe, given.steps, given.repeat)
    bench_segmentation(pipe, given.repeat)
    if not given.no_memory:
        print_peaks()


if __name__ == "__main__":
    main()
