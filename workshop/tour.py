"""Run the course from the first notebook to the last and write it as a book.

    python -m workshop.tour                      # all of notebooks/ into build/tour/index.html
    python -m workshop.tour --inplace            # and store the outputs in the notebooks
    python -m workshop.tour --times              # and how long each took, in workshop/make/run_times.json
    python -m workshop.tour notebooks/00_*.ipynb # some of them

Every notebook gets a fresh kernel of this very Python, whatever kernels are registered on the machine. One
that says it has moved (`"ovamnb": {"moved_to": NAME}` in its metadata) is not run: its page leads to the new
one.
"""

import argparse
import base64
import io
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image
from tqdm import tqdm

from ovamnb.plumbing.command import BEGINS_ANEW, WRONG, ends, require_writable
from ovamnb.plumbing.files import write_text

from .pages import Visit, clock, machine, page_name

LARGE = 20_000  # characters of a picture in a notebook
FOLDED = re.compile(r"(data:image/png;base64,)([\w+/=]+)")
TIMES = Path(__file__).parent / "make" / "run_times.json"


class ThisPython(KernelSpecManager):
    """Knows one kernel: the Python that runs the tour."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The same answer for every name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class PeakMemory:
    """`with PeakMemory() as peak: ...`, then `peak.mib`: the most MiB that all child processes held together.

    Sampled ten times a second, since the peaks of several processes need not fall together.
    """

    mib = 0.0

    def __enter__(self) -> "PeakMemory":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            held = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    held += process.memory_info().rss
                except psutil.Error:  # ended between the two calls
                    continue
            self.mib = max(self.mib, held / 2**20)


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook; FileNotFoundError, or ValueError for what is none."""
    if not path.is_file():
        what = "is a folder: give the notebooks in it" if path.is_dir() else "is not there"
        raise FileNotFoundError(f"'{path}' {what}, as in `notebooks/00_start_here.ipynb`.")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"'{path}' is damaged or no notebook ({why:.80}): write it anew.") from None
    return notebook


def execute(path: Path, timeout: int) -> Visit:
    """Run one notebook in its own folder; an error ends it and is told in the result, not raised."""
    notebook = read(path)
    current = 0
    with tqdm(total=len(notebook.cells), desc=path.stem, unit="cell", leave=False) as bar:

        def started(cell_index: int, **_: Any) -> None:
            nonlocal current
            current = cell_index
            bar.update(cell_index - bar.n)

        options = {"record_timing": False, "coalesce_streams": True}
        os.environ["OVAMNB_PROGRESS"] = "off"  # a reader's own progress is no part of the course
        # After its last cell a kernel has nothing to say, nor after Ctrl-C.
        client = NotebookClient(notebook, timeout=timeout, shutdown_kernel="immediate", **options)
        client.on_cell_start = started
        client.km = AsyncKernelManager(kernel_spec_manager=ThisPython())
        client.resources = {"metadata": {"path": str(path.parent)}}
        error, begin = "", time.perf_counter()
        with PeakMemory() as peak:
            try:
                client.execute()
            except CellExecutionError as failed:
                error = f"{failed.ename}: {failed.evalue}"
            except (CellTimeoutError, DeadKernelError, AssertionError) as failed:
                # nbclient answers Ctrl-C by ending the kernel, and stumbles over its absence.
                if isinstance(failed, AssertionError) or hasattr(client, "_async_cleanup_kernel_future"):
                    raise KeyboardInterrupt from failed
                error = str(failed).split("\n")[0]
    if error:
        line = notebook.cells[current].source.strip().split("\n")[0]
        error = f"{path.name}, cell {current + 1} of {len(notebook.cells)} (`{line}`): {error}"
    return Visit(path, notebook, time.perf_counter() - begin, peak.mib, error)


def with_a_palette(png: str) -> str:
    """A PNG in base64 with the 256 colours that suit it best, less than half as large: the repository keeps
    every picture of every run that was committed."""
    picture, small = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def folded_with_a_palette(match: re.Match) -> str:
    """The same for a picture inside HTML."""
    return match[1] + (with_a_palette(match[2]) if len(match[2]) > LARGE else match[2])


def store(visit: Visit) -> None:
    """Write the outputs into the notebook, without what changes from run to run or machine to machine."""
    for cell in visit.notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter", "slideshow")}
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if len(data.get("image/png", "")) > LARGE:
                data["image/png"] = with_a_palette(data["image/png"])
            if "text/html" in data:  # an answer that is folded away
                data["text/html"] = FOLDED.sub(folded_with_a_palette, data["text/html"])
    visit.notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(visit.notebook, visit.path)


def moved_to(path: Path) -> Path | None:
    """Where a notebook is now, if it says that it has moved. Raises ValueError where none is there."""
    name = read(path).metadata.get("ovamnb", {}).get("moved_to")
    if name is None:
        return None
    target = path.with_name(Path(str(name)).name.removesuffix(".ipynb") + ".ipynb")
    if not target.is_file() or target == path:
        raise ValueError(
            f"'{path}' says that it is now '{target.name}', which is not there: mend its metadata."
        )
    return target


def store_times(visits: list[Visit], path: Path, anew: bool) -> None:
    """Run time and peak memory of the notebooks that ran to their end, for README and the chapters' heads:
    {"00_start_here": {"seconds": 31, "mib": 900, "machine": "CPU, …"}}. Others keep theirs, unless `anew`."""
    times = {} if anew or not path.is_file() else json.loads(path.read_text("utf-8"))
    for visit in visits:
        if not visit.error:
            figures = {"seconds": round(visit.seconds), "mib": round(visit.mib), "machine": machine()}
            times[visit.path.stem] = figures
    write_text(path, json.dumps(times, indent=2, sort_keys=True) + "\n")


def write(visits: list[Visit], moved: dict[Path, Path], out: Path, whole: bool) -> None:
    """The book of what was run; with the whole course, the page that asks a trace, too."""
    from .ask.write import (
        record,
        standalone,
    )  # Sphinx and diffusers take seconds, which a wrong argument need not
    from .book import ASK, write_book

    asking = None
    if whole:
        asking = record(out / ASK)
        standalone(out / ASK, asking)
    pages = {page_name(old): page_name(new) for old, new in moved.items()}
    write_book(visits, out, pages, asking)


@ends("python -m workshop.tour", again=f"What was run is in the book; {BEGINS_ANEW}")
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, write, and say what failed."""
    parser = argparse.ArgumentParser(
        prog="python -m workshop.tour", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/, in order")
    parser.add_argument("--inplace", action="store_true", help="store the outputs in the notebooks too")
    parser.add_argument("--times", action="store_true", help=f"store run times in {TIMES.name} too")
    parser.add_argument("--out", type=Path, default=Path("build/tour"), help="folder of the pages")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that one cell may take")
    args = parser.parse_args(arguments)
    given = args.notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    if not given:
        parser.error("no notebooks here: run it from the root of the repository")
    with ends(parser.prog, WRONG):  # before the first notebook has run for minutes
        require_writable(args.out)
        moved = {path: target for path in given if (target := moved_to(path))}
        paths = list(dict.fromkeys(moved.get(path, path) for path in given))
        for path in paths:
            read(path)
    visits: list[Visit] = []
    try:
        for path in tqdm(paths, desc="tour", unit="notebook"):
            visits.append(visit := execute(path, args.timeout))
            if args.inplace and not visit.error:
                store(visit)
    finally:
        if visits:
            write(visits, moved, args.out, whole=not args.notebooks and len(visits) == len(paths))
    if args.times:
        store_times(visits, TIMES, anew=not args.notebooks)
    print(f"\n{machine()}\n\n| notebook | run time | peak memory |\n| --- | --- | --- |")
    for visit in visits:
        print(f"| {visit.path.stem} | {clock(visit.seconds)} | {visit.mib:,.0f} MiB |")
    print(f"\n{args.out / 'index.html'}")
    if errors := [visit.error for visit in visits if visit.error]:
        sys.exit("\nfailed:\n" + "\n".join(errors))


if __name__ == "__main__":
    main()
