"""What the commands `evaluate` and `ablate` have in common: their arguments, the data, the model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from ..storage import load_tokens
from ..tokens import Token
from .data import DATA, SPLITS, Data, load_data


def arguments_of(name: str, about: str | None, data: str) -> argparse.ArgumentParser:
    """A parser with the arguments that both commands take."""
    parser = argparse.ArgumentParser(
        prog=f"python -m ovamnb.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", default=data, help=f"{', '.join(DATA)} (default %(default)s)")
    add("--root", type=Path, help="the folder of the data set (default: data/NAME)")
    add("--model", default="bundled", help="as for ov.load_pipeline (default %(default)s)")
    add("--tokens", type=Path, help="a file of ov.save_tokens (default: the bundled model's)")
    add("--limit", type=positive, help="pictures of each split at most, evenly spaced (default: all)")
    add("--choose-on", type=positive, default=500, help="validation pictures at most (default %(default)s)")
    add("--seed", type=int, default=0, help="of the noise on given pictures (default %(default)s)")
    add("--device", help="cuda, mps or cpu (default: the best there is)")
    add("--out", type=Path, help=f"where results go (default runs/{name}/DATA)")
    add("--csv", type=Path, help="where the tables go too (default: beside the results)")
    return parser


def positive(text: str) -> int:
    """A count of pictures; another is refused before anything runs."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"pictures are counted from 1, not {count}.")
    return count


def both_splits(given: argparse.Namespace) -> dict[str, Data]:
    """Split → its pictures; raises as `load_data`."""
    return {split: load_data(given.data, split=split, root=given.root) for split in SPLITS}


def tokens_for(given: argparse.Namespace) -> Mapping[str, Token]:
    """Word → token: of the file that is given, or those that come with the bundled model. ValueError where
    there are none."""
    if given.tokens is None and given.model != "bundled":
        raise ValueError("Tokens belong to one model: give a file of this one's by --tokens.")
    return load_tokens(given.tokens) if given.tokens else load_tokens()


def limits(given: argparse.Namespace) -> dict[str, int | None]:
    """Split → how many of its pictures at most. A threshold needs few, and COCO's validation split has 118
    000."""
    return {"validation": min(given.limit or given.choose_on, given.choose_on), "test": given.limit}


def start(given: argparse.Namespace) -> tuple[PartialState, object]:
    """This process among those of `accelerate launch`, and the model on its device."""
    from ..pipelines import load_pipeline

    # Whoever is done waits for the others, however long they take.
    state = PartialState(cpu=given.device == "cpu", timeout=timedelta(days=7))
    pipe = load_pipeline(given.model, device=given.device or state.device)
    pipe.set_progress_bar_config(disable=True)
    return state, pipe
