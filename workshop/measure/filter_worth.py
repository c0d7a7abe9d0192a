"""What the filters of a synthetic set are worth: `python -m workshop.measure.filter_worth runs/synthetic`.

The judge, a segmenter that was trained on rendered scenes, labels what the model drew: those label maps go
to SegmentationClass-judge of the set, for networks to learn from and to compare; how far the set's own masks
agree with them, filter by filter, goes to filters.csv, and what is known of each picture, how far the two
agree in it among others, to pictures.csv.

`--rendered DIR` makes the set's counterpart of rendered scenes, with as many objects of as many classes:
SegmentationClass holds their exact masks, SegmentationClass-attention what the same method makes of them when
the model looks at them. Between the two kinds of pictures and the two of masks, what a synthetic set lacks
can be told apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ovamnb.data.on_disk import IGNORED, read_labels
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import of_concept
from ovamnb.evaluation.look import Look
from ovamnb.evaluation.metrics import confusion, interval, iou, mean_iou, overlap
from ovamnb.evaluation.redraw import shown
from ovamnb.evaluation.report import write_table
from ovamnb.pipelines import BUNDLED, load_pipeline
from ovamnb.plumbing.command import BEGINS_ANEW, ends
from ovamnb.plumbing.english import listed
from ovamnb.synthesize.filters import FILTERS, reasons
from ovamnb.synthesize.folder import (
    MASKS,
    REMEDY,
    VOC,
    image_path,
    labels_path,
    read_image,
    read_records,
    write_image,
    write_labels,
    write_lines,
)
from ovamnb.synthesize.label_maps import label_map, with_doubt
from ovamnb.synthesize.synthesis import ROW
from ovamnb.synthesize.tune import load_bands
from ovamnb.tokens import load_tokens

from ..make.token_bank import SMALLEST
from ..train.oracle import JUDGE, Oracle, load_oracle, without_borders

JUDGES, ATTENTION = f"{MASKS}-judge", f"{MASKS}-attention"
RESULTS = BUNDLED.parent / "results" / "synthetic"
COLUMNS = ("masks", "filter", "kept", "pictures", "shown", "miou", "low", "high", "mask miou", "labelled")
PICTURES = ("name", "prompt", "seed", "classes", "areas", "scores", "ignored", "iou")


def ask_judge(root: Path, records: Sequence[Mapping], judge: Oracle) -> None:
    """Write the judge's label map of each picture that has none: what it sees, whatever the prompt said;
    outlines do not count."""
    for record in tqdm(records, desc="the judge looks"):
        path = root / labels_path(record["name"], JUDGES)
        if not path.exists():
            labels = judge.labels(read_image(root / image_path(record["name"]), REMEDY))
            write_labels(root, record["name"], without_borders(labels).numpy().astype("uint8"), JUDGES)


@dataclass(frozen=True)
class Judged:
    """One picture before the judge: `shown`, whether it finds every class that the prompt names; `table`
    (class + 1, class + 1), its labels against all that the judge sees, which is what a network is taught;
    `mask_table`, against the classes that the prompt names alone, which is how good the masks are: where the
    judge sees something else, picture and prompt disagree, and the mask is not to blame. `labelled`: the
    share of pixels that are not left out. `iou`: of the classes that the prompt names, in `table`."""

    shown: bool
    table: Tensor
    mask_table: Tensor
    labelled: float
    iou: float


def judged(root: Path, record: Mapping, masks: str) -> Judged:
    """The label map of a picture, compared with the judge's."""
    name = record["name"]
    ours = torch.from_numpy(read_labels(root / labels_path(name, masks), REMEDY)).long()
    truth = torch.from_numpy(read_labels(root / labels_path(name, JUDGES), REMEDY)).long()
    own = [CONCEPTS.index(word) + 1 for word in record["classes"]]
    shown = all((truth == label).float().mean() > SMALLEST for label in own)
    counts = ours != IGNORED
    named = torch.isin(truth, torch.tensor([0, *own])) & shown
    tables = []
    for kept in (counts, counts & named):
        answer, seen = torch.where(kept, ours, 0), torch.where(kept, truth, IGNORED)
        tables.append(confusion(answer, seen, len(CONCEPTS)))
    return Judged(shown, *tables, float(counts.float().mean()), float(iou(tables[0])[own].mean()))


def rows(root: Path, records: Sequence[Mapping], masks: str) -> Iterable[dict]:
    """A row for all pictures, one for those that each filter keeps, one for those that all do: see COLUMNS.

    `shown`, `labelled`: means of what Judged holds; `miou`, with its interval from `low` to `high`, and
    `mask miou`: of its tables' sums.
    """
    all_of = {record["name"]: judged(root, record, masks) for record in records}
    found = reasons(records)
    for which in ("none", *FILTERS, "all"):
        kept = [all_of[name] for name, why in found.items() if passes(which, why)]
        both, either = (
            torch.stack(part)[:, 1:] for part in zip(*(overlap(one.table) for one in kept), strict=True)
        )
        low, high = interval(both, either)
        values = {
            "kept": len(kept) / len(found),
            "shown": sum(one.shown for one in kept) / len(kept),
            "miou": mean_iou(sum(one.table for one in kept)),
            "low": low,
            "high": high,
            "mask miou": mean_iou(sum(one.mask_table for one in kept)),
            "labelled": sum(one.labelled for one in kept) / len(kept),
        }
        rounded = {name: round(value, 4) for name, value in values.items()}
        yield {"masks": masks, "filter": which, "pictures": len(kept), **rounded}


def passes(which: str, why: Sequence[str]) -> bool:
    """Whether a picture with these reasons to drop it passes one of the filters, "all" or "none" of them."""
    return which == "none" or (not why if which == "all" else which not in why)


def counterpart(root: Path, records: Sequence[Mapping], pipe) -> None:
    """A rendered scene for each picture, with as many objects, one of them of its first class; exact masks,
    and those of the model's attention when it looks at the scene and is told what it shows."""
    tokens, band = load_tokens(), load_bands()[ROW]
    names = []
    for record in tqdm(records, desc="rendering and looking"):
        concept, number = record["classes"][0], int(record["name"].rsplit("-", 1)[1])
        names.append(record["name"])
        if (root / labels_path(record["name"], ATTENTION)).exists():
            continue
        objects = len(record["classes"])
        # A stream of its own seeds, 1000 and on: the networks' real scenes are of the same stream.
        [scene] = of_concept("downstream", concept, 1, objects=objects, seed=1000 + number)
        image = Image.fromarray(scene.image)
        labels = sorted({int(label) for label in set(scene.labels.ravel().tolist()) - {0}})
        asked = tuple(CONCEPTS[label - 1] for label in labels)
        prompt = f"a photograph of {listed(asked)}"
        trace = shown(pipe, image, prompt)
        scores = with_doubt(Look(pipe, image, trace, prompt, asked, tokens))
        write_image(root, record["name"], image)
        write_labels(root, record["name"], scene.labels)
        write_labels(root, record["name"], label_map(scores, labels, *band).numpy(), ATTENTION)
    write_lines(root / "classes.txt", CONCEPTS)
    write_lines(root / VOC / "ImageSets" / "Segmentation" / "train.txt", names)


def save(path: Path, columns: Sequence[str], lines: Iterable[Mapping]) -> None:
    write_table(path, (), columns, ([line[column] for column in columns] for line in lines))


def flat(value):
    """A list as a cell: cat;car."""
    return ";".join(map(str, value)) if isinstance(value, list) else value


@ends("python -m workshop.measure.filter_worth", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.filter_worth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("set", type=Path, help="what `python -m ovamnb.synthesize` wrote")
    parser.add_argument(
        "--judge",
        type=Path,
        default=JUDGE,
        help="its weights (default: the one that annotated for no token)",
    )
    parser.add_argument("--rendered", type=Path, help="where the counterpart of rendered scenes goes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the tables go (default: the assets)")
    given = parser.parse_args(arguments)
    records = list(read_records(given.set))
    if not records:
        parser.error(f"There are no pictures in '{given.set}': {REMEDY}")
    ask_judge(given.set, records, load_oracle(given.judge, device="cpu"))
    folders = sorted(path.name for path in (given.set / VOC).glob(f"{MASKS}*") if path.name != JUDGES)
    found = [row for masks in folders for row in rows(given.set, records, masks)]
    save(given.out / "filters.csv", COLUMNS, found)
    known = (r | {"iou": round(judged(given.set, r, MASKS).iou, 4)} for r in records)
    save(given.out / "pictures.csv", PICTURES, ({name: flat(r[name]) for name in PICTURES} for r in known))
    print((given.out / "filters.csv").read_text())
    if given.rendered:
        found = reasons(records)
        kept = [record for record in records if not found[record["name"]]]
        counterpart(given.rendered, kept, load_pipeline(device="cpu"))


if __name__ == "__main__":
    main()
