"""What recording adds to a generation: ours, and the official implementations'."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from ovamnb.recipe import SegmentRecipe
from ovamnb.recorder import record
from ovamnb.refine import complete
from ovamnb.segmentation import segment

from .official import daam_tracer, ovam_hooker
from .timing import compare, print_ratios

PROMPT, QUESTION, WORD = "a cat and a car on grass", "a photograph of a kitten", "kitten"
CLASSES = ("cat", "car", "dog", "tree", "bird", "house", "boat", "horse")


def generation(pipe, **options) -> Callable:
    """A function that makes one image within the recorder it is given, and returns what that recorded."""

    def generate(recorder=None) -> object:
        with torch.no_grad(), recorder or nullcontext() as trace:
            pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options)
        return trace

    return generate


def bench_recording(
    pipe, repeat: int, *, official: Path | None = None, daam: Path | None = None, **options
) -> None:
    """A generation alone and recorded in each way; then a question and a completion. `options`: the
    pipeline's."""
    generate = generation(pipe, **options)
    trace = generate(record(pipe))
    largest = max(max(block.grid) for block in trace.blocks.values())
    full = generate(record(pipe, self_attention=(largest,)))
    heat, affinity = trace.maps(QUESTION)[WORD], full.self_attention(largest)
    rows = {
        f"generate, {len(trace.steps)} steps": generate,
        "… and record queries": lambda: generate(record(pipe)),
    }
    reasons = []
    for name, add in (("official OVAM", official_row), ("official DAAM", daam_row)):
        folder = official if add is official_row else daam
        if folder is None:
            continue
        try:
            rows[f"… and the {name}'s"] = add(pipe, generate, folder)
        except (
            Exception
        ) as error:  # foreign code, written for other versions: whatever it raises is the answer
            reasons.append(f"not run: {name}'s recording, since {type(error).__name__}: {error}")
    rows |= {
        f"… and self-attention at {largest}": lambda: generate(record(pipe, self_attention=(largest,))),
        "ask one text": lambda: trace.maps(QUESTION)[WORD],
        "complete one map": lambda: complete(heat, affinity),
    }
    print_ratios(compare(rows, repeat))
    print(*reasons, sep="\n", end="\n" if reasons else "")
    print(f"a trace holds {trace.nbytes / 1e6:.1f} MB, with self-attention {full.nbytes / 1e6:.1f} MB")


def official_row(pipe, generate: Callable, folder: Path) -> Callable[[], object]:
    """OVAM's recording, tried once."""
    hooker = ovam_hooker(folder)
    found = generate(hooker(pipe))
    if not all(len(block.hidden_states) for block in found.cross_attention_hookers):
        raise RuntimeError("it ran, and recorded nothing.")
    return lambda: generate(hooker(pipe))


def daam_row(pipe, generate: Callable, folder: Path) -> Callable[[], object]:
    """DAAM's recording, tried once. Its folder for saved heads, which it makes unasked, goes to a temporary
    place."""
    tracer = daam_tracer(folder)

    def run():
        with tempfile.TemporaryDirectory() as place:
            return generate(tracer(pipe, data_dir=place))

    if not dict(run().all_heat_maps):
        raise RuntimeError("it ran, and recorded nothing: it looks for texts of 77 tokens only.")
    return run


def bench_segmentation(pipe, repeat: int) -> None:
    """DiffSegmenter with a pass of the UNet for each class, as its authors' code has it, and with fewer."""
    with torch.no_grad():
        image = pipe(PROMPT, num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images[0]

    def cut(**options) -> Callable[[], object]:
        return lambda: segment(pipe, image, CLASSES, recipe=SegmentRecipe(), **options)

    rows = {
        f"segment, {len(CLASSES)} passes": cut(batch=1),
        f"… {len(CLASSES)} classes in one batch": cut(batch=len(CLASSES)),
        "… in one text": cut(together=True),
    }
    seconds = compare(rows, repeat)
    print()
    print_ratios(seconds)
    print("classes a second: " + ", ".join(f"{len(CLASSES) / value:.1f}" for value in seconds.values()))
