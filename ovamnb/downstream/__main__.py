"""What a synthetic training set is worth: a small network trained on it, tested on real pictures.

    python -m ovamnb.downstream --synthetic runs/synthetic judge=runs/synthetic:SegmentationClass-judge
    python -m ovamnb.downstream --real voc --root data/VOCdevkit --synthetic runs/synthetic --size 256 320
    accelerate launch --num_processes 4 -m ovamnb.downstream --synthetic runs/synthetic

The network is trained from scratch on k real pictures, on a source's, on both, and on one after the other,
for the same number of steps each time. A source is [NAME=]DIR[:MASKS]: a folder that
`python -m ovamnb.synthesize` wrote, and optionally which of its folders of label maps. An interrupted study
goes on where it stopped.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from ..pipelines import find_device
from ..plumbing.command import WRONG, ends, require_given, require_writable
from .learn import Training
from .network import NETWORKS
from .sources import real, sources
from .study import MIXES, Study
from .table import StudyTable


@ends("python -m ovamnb.downstream")
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ovamnb.downstream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, usual = parser.add_argument, Training()
    mixes = "; ".join(f"{name}: {what}" for name, what in MIXES.items())
    add("--synthetic", nargs="+", default=[], metavar="[NAME=]DIR[:MASKS]", help="sources, as above")
    add("--real", default="emoji-real", help="the real set: emoji-real, voc, … (default %(default)s)")
    add("--root", type=Path, help="the folder of the real set (default: data/NAME)")
    sizes = "numbers k of real pictures (default 25 100 400)"
    add("--sizes", nargs="+", type=int, default=[25, 100, 400], help=sizes)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of repetitions (default 0 1 2)")
    add("--mixes", nargs="+", default=[*MIXES], metavar="MIX", help=f"{mixes} (default: all)")
    add("--network", default=usual.network, help=f"{', '.join(NETWORKS)} (default %(default)s)")
    add("--steps", type=int, default=usual.steps, help="training steps (default %(default)s)")
    add("--batch", type=int, default=usual.batch, help="pictures per step (default %(default)s)")
    size = f"size in pixels into which pictures are scaled to fit (default {usual.size[0]} {usual.size[1]})"
    add("--size", nargs=2, type=int, default=usual.size, metavar=("H", "W"), help=size)
    add("--device", help="cuda, mps or cpu (default: the best there is)")
    add("--out", type=Path, default=Path("runs/downstream"), help="where results go (default %(default)s)")
    add("--csv", type=Path, help="the folder of the CSV tables (default: that of the results)")
    add("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        for folder in filter(None, (given.out, given.csv)):
            require_writable(folder)
        find_device(given.device)
        pool, test = real(given.real, given.root)
        require_given(given.root)
        study = Study(
            pool,
            test,
            sources(given.synthetic, test.classes),
            given.sizes,
            given.seeds,
            given.mixes,
            Training(given.network, given.steps, given.batch, tuple(given.size)),
            given.device,
            given.quiet,
        )
        study.prepare(given.out)

    # A process that is done waits for the others, however long they take.
    state = PartialState(cpu=given.device == "cpu", timeout=timedelta(days=7))
    study.run(given.out)
    state.wait_for_everyone()
    if state.is_main_process:
        report = StudyTable(study, given.out)
        report.save(given.csv or given.out)
        print(report.text())


if __name__ == "__main__":
    main()
