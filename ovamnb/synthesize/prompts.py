"""Plans of pictures: a prompt, a seed and the classes that the picture should show.

    list(from_templates(["cat", "car"], 2, ["a photograph of {}", "{} and {}"]))

A plan does not depend on how many there are: the first n are the same in a longer list, so that a set can
grow.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.on_disk import IGNORED, read_lines, read_text
from ..plumbing.english import mentions, with_article

SLOT = "{}"
TEMPLATES = ("a photograph of {}",)
SEED = 1_000_000
"""Far from the seeds of the pictures that tokens are learned from and methods are tested on."""


@dataclass(frozen=True)
class Plan:
    """One picture to generate; `classes` are those that its labels may hold."""

    name: str
    prompt: str
    seed: int
    classes: tuple[str, ...]


def from_templates(
    classes: Sequence[str], count: int, templates: Sequence[str] = TEMPLATES, *, seed: int = SEED
) -> Iterator[Plan]:
    """`count` plans for each class; classes and templates take turns.

    A template's first slot `{}` takes the class with its article, "a cat", each further one another class,
    chosen at random. Raises ValueError for a template without a slot or with more of them than classes, and
    for an invalid seed.
    """
    check_seed(seed)
    for template in templates:
        check_template(template, len(classes))
    for number in range(count):
        for index, name in enumerate(classes):
            own = number * len(classes) + index
            template = templates[number % len(templates)]
            others = [other for other in classes if other != name]
            order = np.random.default_rng((seed, own)).permutation(len(others))
            shown = (name, *(others[i] for i in order[: template.count(SLOT) - 1]))
            prompt = template.format(*map(with_article, shown))
            yield Plan(f"{slug(name)}-{number:05d}", prompt, seed + own, shown)


def check_template(template: str, classes: int) -> None:
    """ValueError for a template that cannot be filled."""
    slots = template.count(SLOT)
    if not slots:
        raise ValueError(f"'{template}' has no slot for the class: write {SLOT}, as in '{TEMPLATES[0]}'.")
    if slots > classes:
        raise ValueError(
            f"'{template}' has {slots} slots, and there are only {classes} classes to fill them."
        )
    if set(template.replace(SLOT, "")) & set("{}"):
        raise ValueError(f"'{template}' has braces that are no slot: a slot is {SLOT}, with nothing inside.")


def from_captions(
    classes: Sequence[str], count: int, path: str | Path, *, seed: int = SEED
) -> Iterator[Plan]:
    """`count` plans for each line of a text file; a line's classes are those whose names stand in it.

    Lines that name no class are left out. Raises FileNotFoundError without the file, ValueError where no
    line names a class.
    """
    lines = [
        (line, tuple(name for name in classes if mentions(line, name)))
        for line in read_lines(Path(path), "give a text file with a caption in each line.")
    ]
    if not any(named for _, named in lines):
        raise ValueError(f"No line of '{path}' names one of the classes ({', '.join(classes[:5])}, …).")
    yield from _of_rows([(line, named, None) for line, named in lines], count, seed)


def from_table(classes: Sequence[str], count: int, path: str | Path, *, seed: int = SEED) -> Iterator[Plan]:
    """`count` plans for each row of a CSV file with the columns prompt, classes (with `;` between several)
    and, optionally, seed: that of the row's first picture, from which the others count on.

    Raises FileNotFoundError without the file, ValueError for a missing column, a row without a prompt or a
    class, a class that is not one of `classes`, and a seed that is no number.
    """
    text = read_text(Path(path), "give a CSV file with the columns prompt and classes.")
    table = csv.DictReader(io.StringIO(text))
    missing = {"prompt", "classes"} - set(table.fieldnames or ())
    if missing:
        raise ValueError(f"'{path}' has no column {' and '.join(sorted(missing))}.")
    rows = []
    for row in table:
        line = table.line_num
        listed = (name.strip() for name in (row["classes"] or "").split(";"))
        named = tuple(dict.fromkeys(name for name in listed if name))
        unknown = [name for name in named if name not in classes]
        if not named or unknown:
            what = f"names {unknown[0]!r}, which is none of the classes" if unknown else "names no class"
            raise ValueError(f"'{path}', line {line} {what}: classes are {', '.join(classes[:5])}, …")
        if not (row["prompt"] or "").strip():
            raise ValueError(f"'{path}', line {line} has no prompt.")
        given = (row.get("seed") or "").strip()
        if given and not given.isdecimal():
            raise ValueError(f"'{path}', line {line}: the seed is no whole number: '{given}'.")
        rows.append((row["prompt"], named, int(given) if given else None))
    if not rows:
        raise ValueError(f"'{path}' has no rows: each is a prompt and its classes.")
    yield from _of_rows(rows, count, seed)


def _of_rows(
    rows: Sequence[tuple[str, tuple[str, ...], int | None]], count: int, seed: int
) -> Iterator[Plan]:
    """Rows (prompt, classes, seed) take turns; one without classes gives no plan, but keeps its number."""
    for own in (seed, *(own for _, _, own in rows if own is not None)):
        check_seed(own)
    for number in range(count):
        for index, (prompt, named, own) in enumerate(rows):
            if named:
                picture_seed = seed + number * len(rows) + index if own is None else own + number
                yield Plan(f"line-{index + 1:05d}-{number:05d}", prompt, picture_seed, named)


def slug(name: str) -> str:
    """A class as a part of a file's name: "potted-plant"."""
    return re.sub(r"\W+", "-", name)


def check_seed(seed: int) -> None:
    """ValueError for a number that torch, NumPy or a 64-bit table would not take as a seed."""
    if not 0 <= seed < 2**62:
        raise ValueError(f"A seed is a whole number from 0 on, below 2⁶², not {seed}.")


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes, with single spaces between words. ValueError where there is none; where one is empty,
    comes twice or would share another's files; or where they are too many for 8-bit labels."""
    names = tuple(" ".join(name.split()) for name in classes)
    if not names or not all(names):
        raise ValueError("There is no class to draw: give at least one word, and no empty ones.")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"Named twice among the classes: {', '.join(twice)}.")
    files = Counter(slug(name).casefold() for name in names)
    if alike := [name for name in names if files[slug(name).casefold()] > 1]:
        raise ValueError(f"Their pictures would have the same names: {', '.join(alike)}. Leave one of them.")
    if len(names) >= IGNORED:
        raise ValueError(f"A label map holds {IGNORED - 1} classes at most, not {len(names)}.")
    return names
