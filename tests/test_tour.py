"""The tour on two tiny notebooks: one that runs and one that does not."""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from ovamnb import tour


def written(path: Path, *code: str) -> Path:
    """A notebook with a heading and these code cells."""
    text = new_markdown_cell("# A *title*\n\nThe **first** [words](b.ipynb).\n\nMore.")
    nbformat.write(new_notebook(cells=[text, *map(new_code_cell, code)]), path)
    return path


def test_a_notebook_runs_on_this_python_and_is_stored_without_what_changes(tmp_path: Path) -> None:
    # Memory counts once it is written to, and is looked at a few times a second.
    code = "import sys, time\n\nblock = b'x' * (300 * 2**20)\ntime.sleep(1)\nprint(sys.executable)"
    path = written(tmp_path / "a.ipynb", code)
    visit = tour.execute(path, timeout=60)
    visit.notebook.cells[1].metadata = {"execution": {}, "tags": ["kept"]}
    visit.notebook.metadata["widgets"] = {}
    assert not visit.error and visit.seconds > 0 and visit.mib > 300
    assert visit.about() == ("A title", "The first words.")
    assert 'href="b.html"' in tour.page(visit, {"a", "b"}) and 'href="b.ipynb"' in tour.page(visit, {"a"})
    tour.store(visit)
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text.strip() == tour.sys.executable
    assert stored.cells[1].execution_count == 1 and stored.cells[1].metadata == {"tags": ["kept"]}
    assert set(stored.metadata) == {"kernelspec", "language_info"}


def test_a_large_picture_is_stored_with_a_palette() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    large = base64.b64encode(buffer.getvalue()).decode()
    small = tour.with_a_palette(large)
    assert len(small) < len(large) / 2
    picture = Image.open(io.BytesIO(base64.b64decode(small)))
    assert picture.mode == "P" and picture.size == (120, 90)
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - pixels).mean() < 20


def test_an_error_is_told_with_notebook_and_cell(tmp_path: Path) -> None:
    visit = tour.execute(written(tmp_path / "a.ipynb", "1 + 1", "1 / 0\n2", "3"), timeout=60)
    assert visit.error == "a.ipynb, cell 3 of 4 (`1 / 0`): ZeroDivisionError: division by zero"
    assert visit.error in tour.index([visit]).replace("&#x27;", "'")
