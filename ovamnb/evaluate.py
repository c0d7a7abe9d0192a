"""Methods side by side on a data set: `python -m ovamnb.evaluate --data emoji-sim --methods ovam daam`.

    python -m ovamnb.evaluate --data voc --root data/VOCdevkit --model sd15 --tokens voc.safetensors
    accelerate launch --num_processes 4 -m ovamnb.evaluate --data coco-object --model sd15

An interrupted run goes on where it stopped; with more methods, only these are added. The table says which
pictures, whose truth, and what the methods were told; it is also written as CSV.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .evaluation.command import arguments_of, both_splits, limits, start, tokens_for
from .evaluation.report import Report
from .evaluation.rows import METHODS, TOKEN
from .evaluation.run import KNOWN, Evaluation, check_rows


def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("evaluate", __doc__, "emoji-real")
    methods = f"{', '.join(METHODS)}; with {TOKEN} behind it, one asks with tokens (default: all, with words)"
    parser.add_argument("--methods", nargs="+", default=[*METHODS], metavar="METHOD", help=methods)
    parser.add_argument(
        "--known", choices=KNOWN, default="classes", help="what is asked (default %(default)s)"
    )
    given = parser.parse_args(arguments)
    out = given.out or Path("runs/evaluate", given.data)
    try:  # what can be wrong is found before the model is loaded
        splits = both_splits(given)
        tokens = tokens_for(given) if any(row.endswith(TOKEN) for row in given.methods) else {}
        check_rows(given.methods, splits["test"], tokens)
    except (ValueError, FileNotFoundError, ImportError) as error:
        parser.error(str(error))

    state, pipe = start(given)
    keep = None
    if given.known == "filter":
        from .filters import ClipFilter

        keep = ClipFilter.load("bundled") if given.model == "bundled" else ClipFilter.load()
    plan = Evaluation(pipe, given.methods, tokens, known=given.known, keep=keep, seed=given.seed)
    for split, limit in limits(given).items():
        replace(plan, limit=limit).run(splits[split], out / split)
    state.wait_for_everyone()
    if state.is_main_process:
        report = Report(out)
        report.save(given.csv or out)
        print(report.text())


if __name__ == "__main__":
    main()
