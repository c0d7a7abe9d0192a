"""What the commands that evaluate methods have in common: their arguments, the data, the model."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from ..data import DATA, load_data
from ..data.base import ALL, SPLITS, Data
from ..pipelines import find_device
from ..plumbing.command import positive, require_given, require_writable
from ..segmentation import Captioner, Filter
from ..select import evenly
from ..tokens import Token, load_tokens
from .run import Evaluation
from .store import tokens_hash

OR_BESIDE = "or a folder beside it where that holds results of other settings"
"""What `folder_for` adds to the usual folder."""


def arguments_of(
    name: str,
    about: str | None,
    data: str,
    folder: str = f"runs/evaluate/DATA, {OR_BESIDE}",
    *,
    tables: bool = True,
) -> argparse.ArgumentParser:
    """A parser with the arguments that these commands share. `folder`: in words, where results go; `tables`:
    whether there are tables of scores at thresholds chosen on validation pictures."""
    parser = argparse.ArgumentParser(
        prog=f"python -m ovamnb.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",  # rows that `choose` wrote, one a line
    )
    add = parser.add_argument
    add("--data", default=data, help=f"{', '.join(DATA)} (default %(default)s)")
    add("--root", type=Path, help="the folder of the data set (default: data/NAME)")
    add("--model", default="bundled", help="name or folder, as for ov.load_pipeline (default %(default)s)")
    add("--tokens", type=Path, help="a file, or voc-sd15 (default: the bundled model's)")
    add("--limit", type=positive, help="pictures used of each split, at most, evenly spaced (default: all)")
    add("--seed", type=int, default=0, help="seed of the noise on given pictures (default %(default)s)")
    add("--device", help="cuda, mps or cpu (default: the best there is)")
    add("--out", type=Path, help=f"where results go (default {folder})")
    if tables:
        choose = "validation pictures that thresholds are chosen on, at most (default %(default)s)"
        add("--choose-on", type=positive, default=500, help=choose)
        add("--csv", type=Path, help="the folder of the CSV tables (default: that of the results)")
    return parser


def check_places(given: argparse.Namespace) -> None:
    """OSError where results cannot be written, ValueError for a device that this machine lacks."""
    for folder in filter(None, (given.out, getattr(given, "csv", None))):
        require_writable(folder)
    find_device(given.device)


def both_splits(given: argparse.Namespace) -> dict[str, Data]:
    """Split → its pictures; raises as `check_places` and `load_data`, and FileNotFoundError for a root that
    is not there, even where the data set needs none."""
    check_places(given)
    splits = {split: load_data(given.data, split=split, root=given.root) for split in SPLITS}
    require_given(given.root)
    return splits


def whole_set(given: argparse.Namespace) -> dict[str, Data]:
    """{"all": every picture}; raises as `both_splits`, and ValueError for a set that has no such split."""
    check_places(given)
    data = load_data(given.data, split=ALL, root=given.root)
    require_given(given.root)
    return {ALL: data}


def tokens_for(given: argparse.Namespace) -> Mapping[str, Token]:
    """Word → token: those of the given file, or the bundled model's. ValueError for another model without a
    file."""
    if given.tokens is None and given.model != "bundled":
        raise ValueError("Tokens belong to one model: give a file of this one's by --tokens.")
    return load_tokens(given.tokens) if given.tokens else load_tokens()


def evidence_for(given: argparse.Namespace) -> tuple[Filter | None, str | Captioner]:
    """What finds the classes of a picture for --known filter, and what captions it for --caption: the bundled
    CLIP for the bundled model, OpenAI's for others; with captions DiffSegmenter's filter, by both."""
    from ..evidence import CLIP, BlipCaptioner, ClipFilter, paper_filter

    filters = given.known == "filter"
    if given.caption:
        return paper_filter(given.device) if filters else (None, BlipCaptioner.load(device=given.device))
    name = "bundled" if given.model == "bundled" else CLIP
    return (ClipFilter.load(name, device=given.device) if filters else None), ""


def limits(given: argparse.Namespace) -> dict[str, int | None]:
    """Split → the most pictures to use; None takes all. A threshold needs few of COCO's 118 000 validation
    pictures."""
    return {"validation": min(given.limit or given.choose_on, given.choose_on), "test": given.limit}


def tokens_if_needed(given: argparse.Namespace, needed: bool) -> Mapping[str, Token]:
    """`tokens_for` where a method needs tokens or a file is given, so that a damaged file is not ignored;
    else {}."""
    return tokens_for(given) if needed or given.tokens else {}


def folder_for(given: argparse.Namespace, name: str, plans: Mapping[str, tuple[Evaluation, Data]]) -> Path:
    """The folder of a command's results: the given one, or runs/NAME/DATA. Where the latter holds results of
    other settings, a folder beside it, named by a hash of these settings, so that the same command finds it
    again. `plans`: split → (evaluation, data)."""
    usual = given.out or Path("runs", name, given.data)
    differ = [plan.differences(data, usual / split) for split, (plan, data) in plans.items()]
    if given.out or not any(differ):
        return usual
    settings = [plan.settings(data, evenly(len(data), plan.limit)) for plan, data in plans.values()]
    tokens = [tokens_hash(plan.tokens.values()) for plan, _ in plans.values()]
    digest = hashlib.sha256(json.dumps([settings, tokens], sort_keys=True).encode()).hexdigest()[:8]
    own = usual.with_name(f"{usual.name}-{digest}")
    if PartialState().is_main_process:
        why = next(filter(None, differ))
        print(f"'{usual}' holds results of other settings ({why}): these go to '{own}'.", file=sys.stderr)
    return own


def start(given: argparse.Namespace) -> tuple[PartialState, object]:
    """This process among those of `accelerate launch`, and the model on its device."""
    from ..pipelines import load_pipeline

    # A process that is done waits for the others, however long they take.
    state = PartialState(cpu=given.device == "cpu", timeout=timedelta(days=7))
    pipe = load_pipeline(given.model, device=given.device or state.device)
    pipe.set_progress_bar_config(disable=True)
    return state, pipe
