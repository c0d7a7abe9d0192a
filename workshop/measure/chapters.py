"""The code cells of a notebook, run in this process without Jupyter: all, or those that a name needs."""

from __future__ import annotations

import symtable
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from IPython.display import display

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def paths(folder: Path = NOTEBOOKS) -> list[Path]:
    """The chapters, in order; without the notebooks that only say where a chapter has gone."""
    found = sorted(folder.glob("*.ipynb"))
    return [path for path in found if "moved_to" not in nbformat.read(path, 4).metadata.get("ovamnb", {})]


@dataclass(frozen=True)
class Cell:
    """A code cell as plain Python; `number` counts all cells from 0, those of text included."""

    number: int
    code: str
    tags: frozenset[str]


def cells(path: Path) -> list[Cell]:
    """The code cells of a notebook, with `%pip` and the like turned into calls."""
    python = TransformerManager()
    return [
        Cell(number, python.transform_cell(cell.source), frozenset(cell.metadata.get("tags", [])))
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells)
        if cell.cell_type == "code"
    ]


def needed(chapter: list[Cell], names: set[str]) -> list[Cell]:
    """The cells that bind these names, and what those use in turn, in order. (A cell that only changes a
    value which another one bound is not seen.)"""
    names, kept = set(names), []
    for cell in reversed(chapter):
        binds, reads = names_in(cell.code)
        if binds & names:
            names = names - binds | reads
            kept.append(cell)
    return kept[::-1]


def names_in(code: str) -> tuple[set[str], set[str]]:
    """The global names that a piece of code binds, and those that it or its functions read."""
    table = symtable.symtable(code, "cell", "exec")
    own = table.get_symbols()
    binds = {s.get_name() for s in own if s.is_assigned() or s.is_imported() or s.is_namespace()}
    reads = {s.get_name() for s in own if s.is_referenced()}
    inner = table.get_children()
    while inner:
        table = inner.pop()
        inner += table.get_children()
        reads |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return binds, reads


def variables_at_first(**more) -> dict[str, object]:
    """What a notebook's first cell finds: `display`, as in Jupyter. Here it prints what it would show."""
    return {"__name__": "__main__", "display": display, **more}


def run(chapter: list[Cell], compiled: Callable | None = None, variables: dict | None = None) -> dict:
    """Run cells one after the other; all their variables. `compiled` makes code of a cell, else `compile`."""
    matplotlib.use("Agg")
    variables = variables_at_first() if variables is None else variables
    try:
        for cell in chapter:
            name = f"<cell {cell.number}>"
            exec(compiled(cell) if compiled else compile(cell.code, name, "exec"), variables)
            plt.close("all")
    finally:
        plt.close("all")
    return variables
