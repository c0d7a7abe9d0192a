"""The protocol of the OVAM paper: every picture, the paper's own thresholds, its figures beside ours.

    python -m ovamnb.evaluation --data ovam-voc-sim --protocol paper --model sd15 --tokens voc-sd15

No picture is held back to choose on, since nothing is chosen. Classes are asked for as the authors ask
(`Data.question`), maps are cut at their values (`quoted.CUTS`), in their order of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data import EARLIER
from ..data.base import Data
from .methods import TOKEN, paper_threshold
from .metrics import iou, mean_iou
from .quoted import CUTS, PICTURES, beside, table
from .report import show, write_table
from .split import Split

ROWS = tuple(f"{name}{end}" for name in ("ovam-map", "ovam+weights+crf", "attn2mask") for end in ("", TOKEN))
COLUMNS = ("method", "asked by", "threshold", "mIoU", "the paper's mIoU")


def check_protocol(rows: Sequence[str], data: Data, known: str) -> None:
    """ValueError for a method whose paper gives no threshold for such a set, for pictures that nobody could
    tell from others, and for methods that are told something else than each picture's class."""
    if known != "classes":
        raise ValueError("The paper's methods are told each picture's class: leave out --known.")
    if data.seen(0) is None:
        raise ValueError(
            "Without the authors' pictures nobody can tell whether the model draws those that were "
            "annotated: put the folder images/ beside annotations/."
        )
    for row in rows:
        if paper_threshold(row, data.like) is None:
            known = ", ".join(CUTS[data.like])
            raise ValueError(
                f"No paper gives a threshold for '{row}' on such a set: take {known}, or leave out "
                "--protocol, and the threshold is chosen on validation pictures."
            )


def reproduction(folder: Path, name: str, rows: Sequence[str], csv: Path | None = None) -> str:
    """Our scores beside the paper's, as text; also written to protocol.csv in `csv` or else in `folder`, that
    of a finished run over all of the data set `name`. ValueError where pictures are missing."""
    split = Split(folder / "all")
    if split.missing:
        raise ValueError(f"{len(split.missing)} pictures are not counted yet: run the same command again.")
    scores, classes, lines = {}, {}, []
    for row in rows:
        threshold = paper_threshold(row, split.settings["like"][0])
        total = split.total(row, split.thresholds.index(threshold))
        scores[row] = mean_iou(total)
        classes[row] = dict(zip(split.classes, iou(total)[1:].tolist(), strict=True))
        asked = "tokens" if row.endswith(TOKEN) else "words"
        theirs = beside(name, row, asked)
        cells = (show(value) if value is not None else "" for value in (threshold, scores[row], theirs))
        lines.append((row.removesuffix(TOKEN), asked, *cells))
    header = [
        f"{EARLIER.get(name, name)}: {len(split.pictures)} of the paper's {PICTURES[EARLIER.get(name, name)]}"
        " pictures; the paper's thresholds, none chosen",
        f"model: {split.settings['model']}, weights {split.settings['weights']}, {split.settings['dtype']}",
        f"truth: {split.settings['truth']}",
    ]
    write_table((csv or folder) / "protocol.csv", header, COLUMNS, lines)
    return "\n".join([*header, "", table(name, scores, classes, pictures=len(split.pictures))])
