"""Write README's tables of results anew from the CSV files of the evaluations:
`python -m workshop.make.readme_tables`.

They stand between `<!-- table NAME -->` and `<!-- end -->`.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, pstdev, stdev

from ovamnb.evaluation.report import read_table
from ovamnb.tokens import FIGURES

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "ovamnb/assets/results"
DRAWN, GIVEN = ("emoji-sim", "emoji-cap"), ("emoji-real", "emoji-unseen")
CHOSEN_ON = dict.fromkeys(DRAWN, "emoji-sim") | dict.fromkeys(GIVEN, "emoji-real")
"""The set on whose validation pictures a set's tuned rows were chosen; thresholds are each set's own."""


def score(value: float) -> str:
    """.123"""
    return f"{value:.3f}".removeprefix("0")


def read_scores(sets: Sequence[str]) -> dict[tuple[str, str, str], dict]:
    """(set, method, asked by) → its row, for methods as they are; (set, "NAME, tuned", asked by) for those
    whose settings were chosen on validation pictures."""
    found = {}
    for name in sets:
        for row in read_table(RESULTS / name / "scores.csv"):
            method = f"{row['method'].split(' ')[0]}, tuned" if row["tried"] > 1 else row["method"]
            found[name, method, row["asked by"]] = row
    return found


def methods(sets: Sequence[str]) -> str:
    """mIoU with its interval: a row for each method, a column for each set and way of asking. Methods of the
    OVAM paper have a row more, at the threshold that it gives."""
    found = read_scores(sets)
    columns = [(name, asked) for name in sets for asked in ("words", "tokens")]
    best = {
        column: max(r["mIoU"] for (n, _, a), r in found.items() if (n, a) == column) for column in columns
    }

    def cell(method: str, name: str, asked: str) -> str:
        row = found[name, method, asked]
        text = score(row["mIoU"])
        text = f"**{text}**" if row["mIoU"] == best[name, asked] else text
        return f"{text} ({score(row['low'])}–{score(row['high'])})"

    def at_the_papers(method: str, name: str, asked: str) -> str:
        value = found[name, method, asked]["at the paper's threshold"]
        return "" if math.isnan(value) else score(value)

    lines = [
        "| method | settings tried | " + " | ".join(f"{name}, {asked}" for name, asked in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]

    def line(name: str, count: str, cells: Iterable[str]) -> None:
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")

    all_methods = list(dict.fromkeys(method for _, method, _ in found))
    for method in all_methods:
        rows = [found[name, method, asked] for name, asked in columns]
        if not math.isnan(rows[0]["at the paper's threshold"]):
            cells = [at_the_papers(method, *column) for column in columns]
            line(f"`{method}`, the paper's threshold", "none", cells)
        counts = sorted({int(row["tried"]) for row in rows if not math.isnan(row["tried"])})
        count = "elsewhere" if not counts else "1" if counts == [1] else "–".join(map(str, counts))
        line(f"`{method}`", count, (cell(method, *column) for column in columns))
    return "\n".join(lines)


def chosen() -> str:
    """The settings that were chosen for each method, by words and by tokens, on each set that was chosen
    on."""
    sets = tuple(dict.fromkeys(CHOSEN_ON.values()))
    found = read_scores(sets)
    lines = ["| method | chosen on | asked by words | asked by tokens |", "|---|---|---|---|"]
    for method in dict.fromkeys(method for _, method, _ in found if method.endswith(", tuned")):
        for name in sets:
            cells = []
            for asked in ("words", "tokens"):
                row = found[name, method, asked]
                settings = [part for part in row["method"].split(" ")[1:] if not part.startswith("tried=")]
                cells.append(f"`{' '.join(settings) or 'as published'}`")
            lines.append(f"| `{method.removesuffix(', tuned')}` | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_pictures() -> str:
    """What the truth's choices change: one class or several asked for; classes that the prompt does not
    name."""
    found = read_scores((*DRAWN, *GIVEN))
    columns = (
        "mIoU",
        "one class",
        "several classes",
        "unnamed left out",
        "with background",
        "mean per picture",
    )
    lines = ["| set | method | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for name in (*DRAWN, *GIVEN):
        for method in ("ovam-wrong-word+completion", "ovam+completion", "ovam+weights+crf", "ovam, tuned"):
            row = found[name, method, "words"]
            cells = (score(row[column]) for column in columns)
            lines.append(f"| {name} | `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ablations() -> str:
    """mIoU of each setting of some groups, by words and by tokens."""
    rows = read_table(RESULTS / "emoji-sim/ablations.csv")
    shown = {
        "blocks": "grids",
        "evenly spaced steps": "steps of 25, evenly spaced",
        "one head": "one head",
        "queries of": "queries",
        "precision": "kept in",
        "sharpening": "sharpening",
    }
    lines = ["| varied | setting: mIoU by words / by tokens |", "|---|---|"]
    for group, name in shown.items():
        found: dict[str, list[str]] = {}
        for row in rows:
            if row["group"] == group:
                setting = f"{row['setting']:g}" if isinstance(row["setting"], float) else row["setting"]
                setting = setting.replace(", divided by the maximum", " ÷ max")
                found.setdefault(setting, []).append(score(row["mIoU"]))
        lines.append(f"| {name} | " + ", ".join(f"{k}: {' / '.join(v)}" for k, v in found.items()) + " |")
    return "\n".join(lines)


def filters() -> str:
    """What each filter of a synthetic set keeps, and how good that is."""
    masks = {
        "SegmentationClass": "`ovam+completion+crf-mean:token`",
        "SegmentationClass-ovam+weights+crf-token": "`ovam+weights+crf:token`",
        "SegmentationClass-daam-token": "`daam:token`",
    }
    passed = {"none": "nothing", "all": "all three"}
    lines = [
        "| prompts | masks | filter passed | kept | show their classes | mIoU of masks | mIoU of labels |",
        "|---|---|---|---|---|---|---|",
    ]
    for prompts, table in (("one object", "filters"), ("pairs", "pairs")):
        for row in read_table(RESULTS / f"synthetic/{table}.csv"):
            if row["masks"] == "SegmentationClass" or row["filter"] in passed:
                name = passed.get(row["filter"], row["filter"])
                labels = f"{score(row['miou'])} ({score(row['low'])}–{score(row['high'])})"
                shares = f"{row['kept']:.0%} | {row['shown']:.0%} | {score(row['mask miou'])} | {labels}"
                lines.append(f"| {prompts} | {masks[row['masks']]} | {name} | {shares} |")
    return "\n".join(lines)


def downstream() -> str:
    """mIoU on real scenes after learning from each mix: mean ± standard deviation over the seeds."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in read_table(RESULTS / "synthetic/scores.csv"):
        found.setdefault((row["source"], row["mix"], int(row["k"])), []).append(row["miou"])
    sizes = sorted({k for _, _, k in found})
    heads = (f"{k} real scenes" if k else "no real scene" for k in sizes)
    lines = ["| source | mix | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(sizes)]
    for source, mix in dict.fromkeys((source, mix) for source, mix, _ in found):
        cells = [found.get((source, mix, k)) for k in sizes]
        shown = [f"{score(mean(cell))} ± {score(stdev(cell))}" if cell else "" for cell in cells]
        lines.append(f"| {source} | {mix} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def why() -> str:
    """mIoU on real scenes after learning from each kind of picture and label alone."""
    kinds = {
        "ours": "generated | attention's",
        "paper": "generated | attention's, by OVAM's steps",
        "judge": "generated | the segmenter's",
        "attention": "rendered | attention's",
        "exact": "rendered | exact",
    }
    found: dict[str, list[float]] = {}
    for row in read_table(RESULTS / "synthetic/why.csv"):
        found.setdefault(row["source"], []).append(row["miou"])

    def cell(source: str) -> str:
        values = found.get(source)
        return f"{score(mean(values))} ± {score(stdev(values))}" if values else ""

    lines = ["| pictures | labels | one object | pairs |", "|---|---|---|---|"]
    for source, title in kinds.items():
        paired = "pairs" if source == "ours" else f"pairs-{source}"
        lines.append(f"| {title} | {cell(source)} | {cell(paired)} |")
    return "\n".join(lines)


def bench() -> str:
    """Speed and memory of maps beside the official code, of Stable Diffusion 1.5's shape."""
    lines = [
        "| tokens | speed against the official OVAM | peak of memory beside the queries, ours : theirs |",
        "|---|---|---|",
    ]
    for row in read_table(RESULTS / "bench.csv"):
        if row["shape"] == "sd15":
            peaks = f"{row['peak']:.0f} : {row['official peak']:.0f} MB"
            lines.append(f"| {row['tokens']:.0f} | {row['faster']:.2f} × | {peaks} |")
    return "\n".join(lines)


def tokens() -> str:
    """mIoU on scenes of one object, by words, by tokens learned in several ways, and by the exact mask."""
    found = json.loads(FIGURES.read_text())["miou"]
    heads = {
        "word": "the word",
        "token": "a token from one annotation: mean ± spread of five",
        "start only": "the same, against the start token alone, as in the paper",
        "average of five": "the mean of the first five tokens",
        "shipped": "the shipped token",
        "mask": "the exact mask",
    }
    heads = {how: title for how, title in heads.items() if how in found}
    lines = [f"| | {' | '.join(heads.values())} |", "|---|" + "---|" * len(heads)]
    for objects, title in (("1 object(s)", ""), ("2 object(s)", ", two objects")):
        for row in found["word"][objects]:
            cells = []
            for how in heads:
                values = found[how][objects].get(row)
                spread = f" ± {score(pstdev(values))}" if values and len(values) > 1 else ""
                cells.append(score(mean(values)) + spread if values else "")
            lines.append(f"| {row}{title} | {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES = {
    "tokens": tokens,
    "bench": bench,
    "drawn": partial(methods, DRAWN),
    "given": partial(methods, GIVEN),
    "chosen": chosen,
    "pictures": by_pictures,
    "ablations": ablations,
    "filters": filters,
    "downstream": downstream,
    "why": why,
}


def filled(text: str) -> str:
    """README with every table as the CSV files have it."""
    for name, table in TABLES.items():
        if text.count(f"<!-- table {name} -->\n") != 1:
            raise ValueError(
                f"README has no line <!-- table {name} -->, or several: write it where the table goes."
            )
        head, rest = text.split(f"<!-- table {name} -->\n")
        text = f"{head}<!-- table {name} -->\n{table()}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m workshop.make.readme_tables", description=__doc__).parse_args()
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
