"""How far the notebooks' assertions are from failing, and how much of that is this computer's arithmetic.

    python -m workshop.measure.margins             # all chapters, in four settings: about half an hour
    python -m workshop.measure.margins 04 --settings native:1 sse:2

Every comparison of two numbers in an assertion is one line: its margin in each setting, the smallest, and how
far it moved. A line is marked where it moved by more than half of what is left: such a claim needs more seeds
or other words, not another number.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from . import arithmetic, chapters

MARKED = 0.5  # of the smallest margin


class _Noted(ast.NodeTransformer):
    """Before each assertion, note both sides of its comparisons."""

    def __init__(self, number: int) -> None:
        self.number = number

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        return [*self._notes(node.test), node]

    def visit_Expr(self, node: ast.Expr) -> list[ast.stmt]:
        """`settings.claim(…, "…")` asserts, too."""
        call = node.value
        claims = isinstance(call, ast.Call) and ast.unparse(call.func) == "settings.claim"
        return [*(self._notes(call.args[0]) if claims else ()), node]

    def _notes(self, test: ast.expr) -> list[ast.stmt]:
        return [
            ast.parse(
                f"__note__({self.number}, {ast.unparse(pair)!r}, {kind!r}, "
                f"lambda: ({ast.unparse(left)}), lambda: ({ast.unparse(right)}))"
            ).body[0]
            for pair, kind, left, right in _comparisons(test)
        ]


def _comparisons(test: ast.expr):
    """(comparison, "<" or ">", left side, right side) of every order that is asserted."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, kind, right in zip(sides, node.ops, sides[1:], strict=False):
                if isinstance(kind, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                    pair = ast.Compare(left, [kind], [right])
                    yield pair, "<" if isinstance(kind, ast.Lt | ast.LtE) else ">", left, right


def measure(path: Path) -> list[tuple[str, float]]:
    """(cell and comparison, margin) of each comparison that was reached."""
    found: list[tuple[str, float]] = []

    def note(number: int, text: str, kind: str, left, right) -> None:
        try:
            small, large = (float(side()) for side in ((left, right) if kind == "<" else (right, left)))
        except (
            TypeError,
            ValueError,
            RuntimeError,
            NameError,
        ):  # no numbers, or names of a loop
            return
        found.append((f"{path.stem[:2]} cell {number:>2}: {text}", large - small))

    def compiled(cell: chapters.Cell):
        tree = ast.fix_missing_locations(_Noted(cell.number).visit(ast.parse(cell.code)))
        return compile(tree, f"<cell {cell.number}>", "exec")

    chapters.run(chapters.cells(path), compiled, chapters.variables_at_first(__note__=note))
    return found


def _elsewhere(path: Path, kernels: str, threads: int) -> list[tuple[str, float]]:
    """`measure` in a process of its own, with this arithmetic."""
    command = [sys.executable, "-m", "workshop.measure.margins", "--one", str(path.resolve())]
    setting = os.environ | arithmetic.environment(kernels, threads)
    done = subprocess.run(command, env=setting, cwd=chapters.NOTEBOOKS.parent, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        print(f"{path.stem} stops with {kernels}, {threads} thread(s): {last}", flush=True)
        return []
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.margins",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("chapters", nargs="*", help="numbers, such as 04 (default: all)")
    default = [f"{kernels}:{threads}" for kernels, threads in arithmetic.VARIED]
    parser.add_argument("--settings", nargs="+", default=default, help="kernels:threads")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print("\n" + json.dumps(measure(given.one)))
        return
    settings = [(kernels, int(threads)) for kernels, threads in (each.split(":") for each in given.settings)]
    for path in chapters.paths():
        if given.chapters and path.stem[:2] not in given.chapters:
            continue
        runs = [run for setting in settings if (run := _elsewhere(path, *setting))]
        for same in zip(*runs, strict=False):
            margins = [margin for _, margin in same]
            least, moved = min(margins), max(margins) - min(margins)
            mark = "  <<<" if moved > MARKED * least else ""
            each = " ".join(f"{margin:.4g}" for margin in margins)
            print(f"{same[0][0]}\n    {each}   least {least:.4g}, moved {moved:.2g}{mark}", flush=True)


if __name__ == "__main__":
    main()
