"""The two thresholds between which a label is uncertain: `python -m ovamnb.synthesize.tune --data emoji-sim`.

Chosen on the validation split of an annotated set, by the counts of `ovamnb.evaluation`: of all pairs that
leave out at most a twentieth of the objects' pixels and of the background's, the one whose remaining labels
have the highest mean IoU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..data import load_data
from ..data.base import Data
from ..evaluation.arguments import arguments_of, check_places, start, tokens_if_needed
from ..evaluation.methods import TOKEN
from ..evaluation.metrics import mean_iou
from ..evaluation.run import Evaluation, check_rows
from ..evaluation.split import Split
from ..evaluation.store import write
from ..plumbing.command import WRONG, ends, positive, require_given, require_writable
from .label_maps import METHODS, steps_for

Band = tuple[float, float]
"""(low, high), each in 0 to 1."""
UNTUNED: Band = (0.25, 0.75)
"""Where nothing was tuned: the OVAM paper's 0.75, and 1 − 0.75."""
BANDS = Path(__file__).parents[1] / "assets" / "synthesis.json"
"""The file of the bands that were chosen, and the weights of the model that they were chosen for."""
RECORDED = 2
"""Denoising steps recorded, evenly spaced: on the first bundled model as good as all."""
LEFT_OUT = 0.05
"""The largest share of the objects' pixels, and of the background's, that may be left out."""


def choose(tables: Tensor, thresholds: Sequence[float], left_out: float = LEFT_OUT) -> Band:
    """The (low, high) whose labels have the highest mean IoU, where pixels between them do not count.

    `tables` (threshold, class + 1, class + 1): the confusion at each of `thresholds`, in rising order.
    Pixels above `high` are counted by the classes in its table, pixels not above `low` by the background in
    its table. `left_out`: the largest share, 0 to 1, of the objects' pixels and of the background's that may
    lie between.
    """
    # (threshold, 2): the background's pixels and the objects' that are labelled background
    below = torch.stack([tables[:, 0, 0], tables[:, 1:, 0].sum(dim=1)], dim=1)
    pixels = torch.stack([tables[0, 0].sum(), tables[0, 1:].sum()])
    pairs = [
        (low, high)
        for high in range(len(thresholds))
        for low in range(high + 1)
        if (below[high] - below[low] <= left_out * pixels).all()
    ]
    low, high = max(pairs, key=lambda pair: mean_iou(between(tables, *pair)))
    return thresholds[low], thresholds[high]


def between(tables: Tensor, low: int, high: int) -> Tensor:
    """The confusion (class + 1, class + 1) of the labels by thresholds number `low` and `high`."""
    return torch.cat([tables[low, :, :1], tables[high, :, 1:]], dim=1)


def bands_of(splits: Sequence[Split]) -> dict[str, Band]:
    """Method → its band over the pictures of all `splits`, for the methods scored on every one."""
    thresholds = splits[0].thresholds
    rows = [row for row in splits[0].rows() if all(row in split.rows() for split in splits)]
    return {
        row: choose(
            torch.stack([sum(split.total(row, k) for split in splits) for k in range(len(thresholds))]),
            thresholds,
        )
        for row in rows
    }


def drawn(data: Data) -> bool:
    """Whether the model generates the pictures again, so that there are denoising steps to choose from."""
    return data[0].seed is not None


def load_bands(path: Path = BANDS) -> Mapping[str, Band]:
    """Method → band; FileNotFoundError where nothing was tuned."""
    if not path.is_file():
        raise FileNotFoundError(f"No '{path}': `python -m ovamnb.synthesize.tune --save {path}` writes it.")
    return {row: (low, high) for row, (low, high) in json.loads(path.read_text("utf-8"))["bands"].items()}


@ends("python -m ovamnb.synthesize.tune")
def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("synthesize.tune", __doc__, "emoji-sim", "runs/synthesize-tune", tables=False)
    rows = [f"{name}{end}" for name in METHODS for end in ("", TOKEN)]
    parser.add_argument("--rows", nargs="+", default=rows, metavar="METHOD", help="as evaluation's --methods")
    parser.add_argument("--and", dest="more", nargs="*", default=[], metavar="DATA", help="further data sets")
    recorded = "denoising steps recorded (default %(default)s)"
    parser.add_argument("--record", type=positive, default=RECORDED, help=recorded)
    parser.add_argument("--save", type=Path, help="also write the thresholds to this file")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        check_places(given)
        if given.save:
            require_writable(given.save.parent)
        sets = {
            name: load_data(name, split="validation", root=given.root) for name in (given.data, *given.more)
        }
        require_given(given.root)
        tokens = tokens_if_needed(given, any(row.endswith(TOKEN) for row in given.rows))
        for data in sets.values():
            check_rows(given.rows, data, tokens, METHODS)
    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    plan = Evaluation(pipe, given.rows, tokens, limit=given.limit, seed=given.seed, methods=METHODS)
    folders = [(given.out or Path("runs/synthesize-tune")) / name for name in sets]
    for data, folder in zip(sets.values(), folders, strict=True):
        steps = steps_for(pipe, given.rows, data.steps, given.record)
        replace(plan, recording={"steps": steps} if drawn(data) else {}).run(data, folder)
    state.wait_for_everyone()
    if not state.is_main_process:
        return
    splits = [Split(folder) for folder in folders]
    found = bands_of(splits)
    for row, (low, high) in found.items():
        print(f"{row:40} low {low:.2f}  high {high:.2f}")
    if given.save:
        pictures = sum(len(split.pictures) for split in splits)
        chosen_on = {"data": list(sets), "pictures": pictures, "weights": splits[0].settings["weights"]}
        write(given.save, {"chosen on": chosen_on, "left out at most": LEFT_OUT, "bands": found})


if __name__ == "__main__":
    main()
