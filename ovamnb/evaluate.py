"""Methods side by side on a data set: `python -m ovamnb.evaluate --data emoji-sim --methods ovam daam`.

    python -m ovamnb.evaluate --data voc --root data/VOCdevkit --model sd15 --tokens voc.safetensors
    accelerate launch --num_processes 4 -m ovamnb.evaluate --data coco-object --model sd15

An interrupted run goes on where it stopped; with more methods, only these are added. The table says which
pictures, whose truth, and what the methods were told; it is also written as CSV.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .evaluation.data import DATA, SPLITS, load_data
from .evaluation.report import Report
from .evaluation.rows import METHODS, TOKEN
from .evaluation.run import KNOWN, Evaluation, check_rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ovamnb.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="emoji-real", help=f"{', '.join(DATA)} (default %(default)s)")
    parser.add_argument("--root", type=Path, help="the folder of the data set")
    methods = f"{', '.join(METHODS)}; with {TOKEN} behind it, one asks with tokens (default: all, with words)"
    parser.add_argument("--methods", nargs="+", default=[*METHODS], metavar="METHOD", help=methods)
    parser.add_argument("--model", default="bundled", help="as for ov.load_pipeline (default %(default)s)")
    parser.add_argument("--tokens", type=Path, help="a file of ov.save_tokens (default: the bundled ones)")
    parser.add_argument(
        "--known", choices=KNOWN, default="classes", help="what is asked (default %(default)s)"
    )
    parser.add_argument("--limit", type=int, help="pictures of each split (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise on given pictures (default 0)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--out", type=Path, help="where results go (default runs/evaluation/DATA)")
    parser.add_argument("--csv", type=Path, help="where the tables go too (default: beside the results)")
    given = parser.parse_args(arguments)
    out = given.out or Path("runs/evaluation", given.data)

    try:  # what can be wrong is found before the model is loaded
        splits = {split: load_data(given.data, split=split, root=given.root) for split in SPLITS}
        tokens = tokens_for(given)
        check_rows(given.methods, splits["test"], tokens)
    except (ValueError, FileNotFoundError, ImportError) as error:
        parser.error(str(error))

    from accelerate import PartialState

    from .pipelines import load_pipeline

    state = PartialState(cpu=given.device == "cpu")
    pipe = load_pipeline(given.model, device=given.device or state.device)
    pipe.set_progress_bar_config(disable=True)
    plan = Evaluation(pipe, given.methods, tokens, known=given.known, limit=given.limit, seed=given.seed)
    for split, data in splits.items():
        plan.run(data, out / split)
    state.wait_for_everyone()
    if state.is_main_process:
        report = Report(out)
        report.save(given.csv or out)
        print(report.text())


def tokens_for(given: argparse.Namespace) -> dict:
    """Word → token: of the file that is given, or those that come with the bundled model."""
    from .storage import load_tokens

    if not any(row.endswith(TOKEN) for row in given.methods):
        return {}
    if given.tokens is None and given.model != "bundled":
        raise ValueError("Tokens belong to one model: give a file of this one's by --tokens.")
    return load_tokens(given.tokens) if given.tokens else load_tokens()


if __name__ == "__main__":
    main()
