"""Methods side by side on a data set: `python -m ovamnb.evaluation --data emoji-sim --methods ovam daam`.

    python -m ovamnb.evaluation --data voc --root data/VOCdevkit --model sd15 --tokens voc.safetensors
    accelerate launch --num_processes 4 -m ovamnb.evaluation --data coco-object --model sd15

An interrupted run goes on where it stopped, and more methods can be added to a finished one. The table names
the pictures, the source of their labels, and what the methods know; it is also written as CSV.
"""

from __future__ import annotations

from dataclasses import replace

from ..plumbing.command import WRONG, ends
from .arguments import arguments_of, both_splits, folder_for, limits, start, tokens_if_needed
from .methods import METHODS, TOKEN
from .report import Report
from .run import KNOWN, Evaluation, check_rows


@ends("python -m ovamnb.evaluation")
def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("evaluation", __doc__, "emoji-real")
    methods = f"{', '.join(METHODS)}; append {TOKEN} to query with tokens (default: all, with words)"
    parser.add_argument("--methods", nargs="+", default=[*METHODS], metavar="METHOD", help=methods)
    known = "of each picture: its classes, those that a filter finds, or nothing (default %(default)s)"
    parser.add_argument("--known", choices=KNOWN, default="classes", help=f"what methods know {known}")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):  # mistakes are found before the model is loaded
        splits = both_splits(given)
        tokens = tokens_if_needed(given, any(name.endswith(TOKEN) for name in given.methods))
        check_rows(given.methods, splits["test"], tokens)

    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    keep = None
    if given.known == "filter":
        from ..evidence import CLIP, ClipFilter

        keep = ClipFilter.load("bundled" if given.model == "bundled" else CLIP, device=given.device)
    plan = Evaluation(pipe, given.methods, tokens, known=given.known, keep=keep, seed=given.seed)
    plans = {split: (replace(plan, limit=limit), splits[split]) for split, limit in limits(given).items()}
    out = folder_for(given, "evaluate", plans)
    for split, (plan, data) in plans.items():
        plan.run(data, out / split)
    state.wait_for_everyone()
    if state.is_main_process:
        report = Report(out)
        report.save(given.csv or out)
        print(report.text())


if __name__ == "__main__":
    main()
