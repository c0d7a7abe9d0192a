"""Play a chapter on the pretend accelerator: `python tests/play.py 04`. Every cell that fails is named."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main(number: str) -> int:
    """How many cells failed."""
    import matplotlib

    matplotlib.use("agg")
    import accelerator

    from workshop.measure import chapters

    os.chdir(chapters.NOTEBOOKS)
    [path] = chapters.NOTEBOOKS.glob(f"{number}_*.ipynb")
    names: dict[str, object] = {"__name__": "__main__"}
    failed = 0
    with accelerator.Accelerator():
        for cell in chapters.cells(path):
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(cell.code, f"cell {cell.number}", "exec"), names)
            except Exception as error:
                failed += 1
                places = [
                    f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)
                ]
                print(f"cell {cell.number}: {type(error).__name__}: {error} ({', '.join(places[-4:])})")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1])))
