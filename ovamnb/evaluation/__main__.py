"""Methods side by side on a data set: `python -m ovamnb.evaluation --data emoji-sim --methods ovam daam`.

    python -m ovamnb.evaluation --data voc --root data/VOCdevkit --model sd15 --tokens voc.safetensors
    accelerate launch --num_processes 4 -m ovamnb.evaluation --data coco-object --model sd15

    python -m ovamnb.evaluation --data ovam-voc-sim --protocol paper --model sd15 --tokens voc-sd15

An interrupted run goes on where it stopped, and more methods can be added to a finished one. The table names
the pictures, the source of their labels, and what the methods know; it is also written as CSV.
"""

from __future__ import annotations

from dataclasses import replace

from ..plumbing.command import WRONG, ends
from . import reproduce
from .arguments import (
    arguments_of,
    both_splits,
    evidence_for,
    folder_for,
    limits,
    start,
    tokens_if_needed,
    whole_set,
)
from .methods import METHODS, TOKEN
from .report import Report
from .run import KNOWN, Evaluation, check_rows


@ends("python -m ovamnb.evaluation")
def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("evaluation", __doc__, "emoji-real")
    methods = f"{', '.join(METHODS)}; append {TOKEN} to query with tokens (default: all, with words)"
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help=methods)
    known = "of each picture: its classes, those that a filter finds, or nothing (default %(default)s)"
    parser.add_argument("--known", choices=KNOWN, default="classes", help=f"what methods know {known}")
    blip = "BLIP captions the picture, for DiffSegmenter's prompts and for --known filter, as in its paper"
    parser.add_argument("--caption", action="store_true", help=blip)
    paper = "paper: every picture of a set, thresholds of the OVAM paper (default: chosen on validation)"
    parser.add_argument("--protocol", choices=("validation", "paper"), default="validation", help=paper)
    given = parser.parse_args(arguments)
    paper = given.protocol == "paper"
    rows = given.methods or (reproduce.ROWS if paper else tuple(METHODS))
    with ends(parser.prog, WRONG):  # mistakes are found before the model is loaded
        splits = whole_set(given) if paper else both_splits(given)
        tokens = tokens_if_needed(given, any(name.endswith(TOKEN) for name in rows))
        for data in splits.values():
            check_rows(rows, data, tokens)
            if paper:
                reproduce.check_protocol(rows, data, given.known)

    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    keep, caption = evidence_for(given)
    plan = Evaluation(pipe, rows, tokens, known=given.known, keep=keep, caption=caption, seed=given.seed)
    most = {"all": given.limit} if paper else limits(given)
    plans = {split: (replace(plan, limit=limit), splits[split]) for split, limit in most.items()}
    out = folder_for(given, "evaluate", plans)
    for split, (plan, data) in plans.items():
        plan.run(data, out / split)
    state.wait_for_everyone()
    if not state.is_main_process:
        return
    if paper:
        print(reproduce.reproduction(out, given.data, rows, given.csv))
        return
    report = Report(out)
    report.save(given.csv or out)
    print(report.text())


if __name__ == "__main__":
    main()
