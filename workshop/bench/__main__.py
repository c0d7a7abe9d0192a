"""What recording costs and what a question costs, as ratios from one run: `python -m workshop.bench` (or
`make bench`).

    python -m workshop.bench --official path/to/ovam --daam path/to/daam --repeat 5

Beside the bundled model stand UNets of the shapes of Stable Diffusion 1.5 and SDXL with random weights or
queries. Every row is the median of `--repeat` runs that take turns. Seconds depend on the machine; the ratios
hardly do.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from ovamnb.evaluation.report import show, write_table
from ovamnb.pipelines import factor
from ovamnb.plumbing.command import BEGINS_ANEW, ends

from . import shapes
from .asking import bench_asking
from .official import checkout
from .peaks import print_peaks
from .recording import bench_recording, bench_segmentation

COLUMNS = ("shape", "steps", "tokens", "seconds", "faster", "peak", "official peak")
ABOUT = "faster: than the official OVAM, on the same random queries; peaks beside the queries in MB"
PARTS = ("recording", "segmentation", "asking", "memory")


@ends("python -m workshop.bench", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--official", type=checkout("ovam"), help="a checkout of the OVAM authors' code")
    parser.add_argument("--daam", type=checkout("daam"), help="a checkout of the DAAM authors' code")
    parser.add_argument("--shapes", nargs="+", default=["bundled", "sd15", "sdxl"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=30, help="recorded steps (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-peaks", action="store_true", help="leave out the peaks of memory of asking")
    parser.add_argument("--save", type=Path, help="a CSV file for the rows of asking")
    given = parser.parse_args(arguments)
    if unknown := set(given.shapes) - {"bundled", *shapes.UNETS}:
        known = ", ".join(["bundled", *shapes.UNETS])
        parser.error(f"There is no shape {', '.join(unknown)}: choose from {known}.")

    gpu, asked = torch.cuda.is_available(), []
    print(f"{'cuda' if gpu else 'cpu'}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if "recording" in given.parts:
        for shape in given.shapes:
            recording(shape, given, gpu)
    if "segmentation" in given.parts:
        bench_segmentation(shapes.pipeline("bundled"), given.repeat)
    if "asking" in given.parts:
        for shape in given.shapes:
            # SDXL's queries take nine times the memory of SD 1.5's.
            steps = min(given.steps, 4) if shape == "sdxl" else given.steps
            peaks = shape != "bundled" and not given.no_peaks  # the bundled model's are too small to be seen
            rows = bench_asking(shape, steps, given.repeat, given.official, peaks=peaks)
            asked += [{"shape": shape, "steps": float(steps)} | row for row in rows]
    if given.save:
        where = f"{torch.get_num_threads()} threads, torch {torch.__version__}; median of {given.repeat} runs"
        cells = ([show(row.get(name, math.nan)) for name in COLUMNS] for row in asked)
        write_table(given.save, [f"{'cuda' if gpu else 'cpu'}, {where}", ABOUT], COLUMNS, cells)
    if "memory" in given.parts:
        print_peaks()


def recording(shape: str, given: argparse.Namespace, gpu: bool) -> None:
    if shape == "sdxl":
        print(
            "\nrecording, sdxl: not run, since its UNet has 2.6 billion parameters; for its maps, see asking"
        )
        return
    pipe = shapes.pipeline(shape)
    steps, side = given.steps, pipe.unet.config.sample_size
    if shape != "bundled" and not gpu:  # a guided step of its full size takes most of a minute
        steps, side = min(steps, 2), side // 2
    print(f"\nrecording, {shape}: latents of {side}×{side}")
    pixels = side * factor(pipe)
    options = {"num_inference_steps": steps, "height": pixels, "width": pixels}
    bench_recording(pipe, given.repeat, official=given.official, daam=given.daam, **options)


if __name__ == "__main__":
    main()
