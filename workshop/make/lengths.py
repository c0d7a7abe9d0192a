"""How long a chapter takes: counted words and lines, measured seconds, written into its head and into README.

    python -m workshop.make.lengths           # after a chapter's text has changed
    make tour ARGS=--times                    # measures the seconds anew, into run_times.json beside this

Reading: 130 words a minute (a text about mathematics, in a foreign language for many), ten lines of code a
minute, two minutes for a prediction; rounded to five minutes. Exercises: 5, 15, 30 minutes for ★, ★★, ★★★.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from ovamnb.course.syllabus import load
from workshop.measure.chapters import paths

ROOT = Path(__file__).resolve().parents[2]
TIMES = Path(__file__).with_name("run_times.json")
README = ROOT / "README.md"
WORDS, LINES, PREDICTIONS = 130, 10, 0.5  # a minute
EXERCISE = {1: 5, 2: 15, 3: 30}  # minutes
FOLDED = re.compile(r"<details>.*?</details>", re.S)


@dataclass(frozen=True)
class Length:
    """What a chapter holds; `seconds` that it ran, None where that was not measured."""

    words: int
    lines: int
    predictions: int
    stars: tuple[int, ...]
    seconds: float | None

    @property
    def reading(self) -> int:
        """Minutes, in fives."""
        exact = self.words / WORDS + self.lines / LINES + self.predictions / PREDICTIONS
        return max(5, 5 * round(exact / 5))

    @property
    def exercises(self) -> int:
        """Minutes for all exercises."""
        return sum(EXERCISE[stars] for stars in self.stars)

    def __str__(self) -> str:
        held = f"{self.words} words, {self.lines} lines of code, {self.predictions} predictions"
        times = " + ".join(f"{'★' * stars} {EXERCISE[stars]}" for stars in self.stars)
        runs = f"; runs in {rounded(self.seconds)} on two cores" if self.seconds else ""
        return f"about {self.reading} minutes to read ({held}); exercises {times} minutes{runs}"


def rounded(seconds: float) -> str:
    """Seconds in tens, or half minutes beyond two."""
    tens = 10 * math.ceil(seconds / 10)
    return f"{tens} seconds" if tens < 120 else f"{math.ceil(seconds / 30) / 2:g} minutes"


def words_of(text: str) -> int:
    """Words of a Markdown text that are read: not those of folded hints, code and addresses."""
    text = re.sub(r"```.*?```", " ", FOLDED.sub(" ", text), flags=re.S)
    text = re.sub(r"\[!\[[^]]*\]\([^)]*\)\]\([^)]*\)|\]\([^)]*\)", " ", text)
    return sum(any(letter.isalpha() for letter in word) for word in text.split())


def length_of(path: Path) -> Length:
    """Counted in the notebook; the seconds as last measured."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    module = load(path.stem[:2])
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    text = [re.sub(r"^\| time \|.*$", "", source, flags=re.M) for source in prose]
    times = json.loads(TIMES.read_text("utf-8")) if TIMES.is_file() else {}
    return Length(
        words=sum(map(words_of, text)),
        lines=sum(bool(line.strip()) for source in code for line in source.splitlines()),
        predictions=len(module.PREDICTIONS),
        stars=tuple(sorted(exercise.stars for exercise in module.EXERCISES)),
        seconds=times.get(path.stem, {}).get("seconds"),
    )


def write_into(notebook: nbformat.NotebookNode, length: Length) -> None:
    """Set the row `time` of the table in a chapter's head."""
    head = notebook.cells[0]
    head.source, count = re.subn(r"^\| time \|.*$", f"| time | {length} |", head.source, flags=re.M)
    if count != 1:
        raise ValueError("A chapter's first cell has one row `| time | … |` in its table.")


def table() -> str:
    """README's table of the course."""
    rows = ["| notebook | the question | to read | exercises | runs in |", "|---|---|---|---|---|"]
    total = [0, 0, 0.0]
    for path in paths():
        first = nbformat.read(path, as_version=4).cells[0].source
        title = re.search(r"^# (\d\d) · (.*)$", first, re.M)
        question = re.search(r"^\*\*(.*)\*\*$", first, re.M)
        length = length_of(path)
        link = f"[{title[1]} {title[2]}](notebooks/{path.name})"
        runs = rounded(length.seconds) if length.seconds else "not measured"
        rows.append(f"| {link} | {question[1]} | {length.reading} min | {length.exercises} min | {runs} |")
        total = [total[0] + length.reading, total[1] + length.exercises, total[2] + (length.seconds or 0)]
    hours = [f"{minutes / 60:.1f} hours" for minutes in total[:2]]
    rows.append(f"| **all** | | {hours[0]} | {hours[1]} | {math.ceil(total[2] / 60)} minutes |")
    return "\n".join(rows)


def readme(text: str) -> str:
    """README with the table between its marks."""
    begin, end = "<!-- course -->", "<!-- end of the course -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{table()}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write what differs, and say so."""
    about = __doc__.split("\n")[0]
    argparse.ArgumentParser(prog="python -m workshop.make.lengths", description=about).parse_args()
    for path in paths():
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        write_into(notebook, length_of(path))
        if nbformat.writes(notebook) != before:
            nbformat.write(notebook, path)
            print(path.relative_to(ROOT))
    text = README.read_text("utf-8")
    if readme(text) != text:
        README.write_text(readme(text), "utf-8")
        print(README.name)


if __name__ == "__main__":
    main()
