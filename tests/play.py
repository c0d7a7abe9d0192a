"""Play chapters on another model or device, and name every cell that fails.

    python tests/play.py 04 --model sd15             # a model of that shape, with random weights (`shaped`)
    python tests/play.py --model sdxl                # every chapter
    python tests/play.py 01 04 --device pretend      # the bundled model on the imitated device: `accelerator`

A failed cell does not end a chapter: the next ones go on with what there is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SHAPED = ROOT / "build" / "shaped"


def play(path: Path) -> list[str]:
    """What failed in a chapter: a line for each cell."""
    import matplotlib.pyplot as plt

    from workshop.measure import chapters

    names = chapters.variables_at_first()
    failed = []
    for cell in chapters.cells(path):
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(cell.code, f"cell {cell.number}", "exec"), names)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[1:]
            places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:])
            failed.append(f"{path.stem[:2]}[{cell.number}] {type(error).__name__}: {error} ({places})")
        plt.close("all")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chapters", nargs="*", help="numbers, such as 04; none: all")
    parser.add_argument("--model", default="bundled", help="bundled, a shape (sd15, sd21, sdxl), a folder")
    parser.add_argument(
        "--device", choices=("here", "pretend"), default="here", help="(default: this machine's best)"
    )
    given = parser.parse_args()

    import matplotlib

    from workshop.measure import chapters

    matplotlib.use("agg")
    os.environ["HF_HUB_OFFLINE"] = "1"
    if given.model != "bundled":
        import shaped

        folder = SHAPED / given.model if given.model in shaped.SHAPES else Path(given.model).resolve()
        if given.model in shaped.SHAPES:
            shaped.save(given.model, folder)
        os.environ["OVAMNB_MODEL"] = str(folder)
    else:
        os.environ.pop("OVAMNB_MODEL", None)
    on = contextlib.nullcontext()
    if given.device == "pretend":
        import accelerator

        on = accelerator.Accelerator()
    os.chdir(ROOT / "notebooks")
    paths = chapters.paths(Path.cwd())
    failed = 0
    with on:
        for path in paths:
            if not given.chapters or path.stem[:2] in given.chapters:
                start = time.perf_counter()
                lines = play(path)
                failed += len(lines)
                print(
                    f"{path.stem}: {len(lines)} failed, {time.perf_counter() - start:.0f} s",
                    *lines,
                    sep="\n  ",
                )
                sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(bool(main()))
