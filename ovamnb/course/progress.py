"""What a reader has predicted and solved: a small file on the reader's computer, and a page that shows it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..plumbing import checks
from ..plumbing.files import whole

KINDS = ("predictions", "exercises")


@dataclass(frozen=True)
class Line:
    """One prediction or exercise of a chapter; `state` is None where nothing was done yet, or else whether it
    was right."""

    name: str
    title: str
    state: bool | None


@dataclass(frozen=True)
class Page:
    """What a chapter asks, and how far this reader is; a notebook shows it as a table that unfolds."""

    chapters: dict[str, tuple[str, dict[str, list[Line]]]]  # number → (title, kind → lines)
    place: str

    def __repr__(self) -> str:
        rows = [f"{'chapter':<40}{'predicted':>12}{'right':>8}{'exercises solved':>19}"]
        for number, (title, kinds) in self.chapters.items():
            done = [line for line in kinds["predictions"] if line.state is not None]
            solved = sum(line.state is True for line in kinds["exercises"])
            made = f"{len(done)} of {len(kinds['predictions'])}"
            exercises = f"{solved} of {len(kinds['exercises'])}"
            right = sum(line.state is True for line in done)
            rows.append(f"{number} {title:<37}{made:>12}{right:>8}{exercises:>19}")
        return "\n".join([*rows, self.place])

    def _repr_html_(self) -> str:
        parts = [f"<pre>{escape(repr(self))}</pre>"]
        for number, (title, kinds) in self.chapters.items():
            lines = [line for kind in KINDS for line in kinds[kind]]
            if any(line.state is not None for line in lines):
                said = {None: "·", True: "✓", False: "✗"}
                items = "<br>".join(
                    f"{said[one.state]} {escape(one.name)} {escape(one.title)}" for one in lines
                )
                parts.append(f"<details><summary>{number} {escape(title)}</summary>{items}</details>")
        return "".join(parts)


def progress(*, forget: bool = False) -> Page:
    """How far you are: for each chapter what you predicted, what was right, what you solved.

        ov.progress()
        ov.progress(forget=True)      # removes the file: a fresh start

    It stands in one small file on your computer and goes nowhere: `progress.json` in the user's data folder,
    or the file that the environment variable OVAMNB_PROGRESS names ("off": nothing is kept).
    """
    from .syllabus import CHAPTERS, load, title_of

    checks.flag("forget", forget)
    if forget and (path := where()) is not None:
        path.unlink(missing_ok=True)
    kept = read()
    chapters = {}
    for number in CHAPTERS:
        module = load(number)
        asked = {"predictions": module.PREDICTIONS, "exercises": {e.name: e.title for e in module.EXERCISES}}
        lines = {
            kind: [Line(name, title, kept[kind].get(name, {}).get("right")) for name, title in named.items()]
            for kind, named in asked.items()
        }
        chapters[number] = (title_of(number), lines)
    path = where()
    place = "nothing is kept (OVAMNB_PROGRESS=off)" if path is None else "kept on this computer only"
    return Page(chapters, f"{place}; `ov.progress(forget=True)` forgets it")


def where() -> Path | None:
    """The file that keeps a reader's progress; None where the reader wants none."""
    named = os.environ.get("OVAMNB_PROGRESS")
    if named:
        return None if named == "off" else Path(named)
    from platformdirs import user_data_path

    return user_data_path("ovamnb", appauthor=False) / "progress.json"


def read() -> dict[str, dict[str, Any]]:
    """What was kept, `kind → name → entry`. A file that is damaged is put aside, with a word about it:
    progress is worth less than a chapter that runs."""
    empty: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    path = where()
    if path is None or not path.is_file():
        return empty
    try:
        kept = json.loads(path.read_text("utf-8"))
        if not all(isinstance(entry, dict) for kind in KINDS for entry in kept[kind].values()):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        with suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        print(f"Your progress file was damaged: it is kept as '{path.stem}.damaged', and a new one begins.")
        return empty
    return empty | kept


def keep(kind: str, name: str, entry: dict[str, Any]) -> None:
    """Write one entry down, `kind` "predictions" or "exercises". Where the file cannot be written, a line
    says so and the chapter goes on."""
    path = where()
    if path is None:
        return
    kept = read()
    kept[kind][name] = entry
    try:
        with whole(path, make_folder=True) as partial:
            partial.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    except (OSError, ValueError) as error:
        print(f"Your progress is not kept: {error} Another place: set OVAMNB_PROGRESS, or off for none.")
