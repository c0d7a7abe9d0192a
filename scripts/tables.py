"""Write README's tables of results anew from the CSV files of the evaluations: `python scripts/tables.py`.

They stand between `<!-- table NAME -->` and `<!-- end -->`.
"""

from pathlib import Path

from ovamnb.evaluation.report import read_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "ovamnb/assets/results"
SETS = ("emoji-sim", "emoji-cap", "emoji-real")


def score(value: float) -> str:
    """.123"""
    return f"{value:.3f}".removeprefix("0")


def methods() -> str:
    """mIoU with its interval: a row for each method, a column for each set and way of asking."""
    found = {
        (name, row["method"], row["asked by"]): row
        for name in SETS
        for row in read_table(RESULTS / name / "scores.csv")
    }
    columns = [(name, asked) for name in SETS for asked in ("words", "tokens")]
    best = {
        column: max(r["mIoU"] for (n, _, a), r in found.items() if (n, a) == column) for column in columns
    }

    def cell(method: str, name: str, asked: str) -> str:
        row = found[name, method, asked]
        text = score(row["mIoU"])
        text = f"**{text}**" if row["mIoU"] == best[name, asked] else text
        return f"{text} ({score(row['low'])}–{score(row['high'])})"

    lines = [
        "| method | " + " | ".join(f"{name}, {asked}" for name, asked in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for method in dict.fromkeys(method for _, method, _ in found):
        lines.append(f"| `{method}` | " + " | ".join(cell(method, *column) for column in columns) + " |")
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
                found.setdefault(setting, []).append(score(row["mIoU"]))
        lines.append(f"| {name} | " + ", ".join(f"{k}: {' / '.join(v)}" for k, v in found.items()) + " |")
    return "\n".join(lines)


TABLES = {"methods": methods, "ablations": ablations}


def filled(text: str) -> str:
    """README with every table as the CSV files have it."""
    for name, table in TABLES.items():
        head, rest = text.split(f"<!-- table {name} -->\n")
        text = f"{head}<!-- table {name} -->\n{table()}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
