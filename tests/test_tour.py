"""The tour on two tiny notebooks: one that runs and one that does not."""

import base64
import io
import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from workshop import tour
from workshop.pages import cards


def written(path: Path, *code: str) -> Path:
    """A notebook with a heading and these code cells."""
    text = new_markdown_cell("# A *title*\n\nThe **first** [words](b.ipynb).\n\nMore.")
    nbformat.write(new_notebook(cells=[text, *map(new_code_cell, code)]), path)
    return path


def moved(path: Path, name: str) -> Path:
    """A notebook that says where it is now."""
    nbformat.write(new_notebook(metadata={"ovamnb": {"moved_to": name}}), path)
    return path


@pytest.mark.slow
def test_a_notebook_runs_on_this_python_and_is_stored_without_what_changes(tmp_path: Path) -> None:
    # Memory counts once it is written to, and is looked at a few times a second.
    code = "import sys, time\n\nblock = b'x' * (300 * 2**20)\ntime.sleep(1)\nprint(sys.executable)"
    path = written(tmp_path / "a.ipynb", code)
    visit = tour.execute(path, timeout=60)
    visit.notebook.cells[1].metadata = {"execution": {}, "tags": ["kept"]}
    visit.notebook.metadata["widgets"] = {}
    assert not visit.error and visit.seconds > 0 and visit.mib > 300
    assert visit.about() == ("A title", "The first words.")
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
    assert visit.error in cards([visit]).replace("&#x27;", "'")


def test_what_is_no_notebook_is_refused_before_any_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tour, "execute", None)
    good, out = written(tmp_path / "good.ipynb", "1"), tmp_path / "pages"
    contents = {
        "broken.ipynb": '{"cells": [',
        "empty.ipynb": "",
        "list.ipynb": "[]",
        "other.ipynb": '{"a": 1}',
        "cells.ipynb": '{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        "binary.ipynb": "\xff\xfe",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
    (tmp_path / "folder.ipynb").mkdir()
    for name, why in (
        ("none.ipynb", "is not there"),
        ("folder.ipynb", "is a folder: give the notebooks in it"),
        *((name, "is damaged or no notebook") for name in contents),
    ):
        with pytest.raises(SystemExit) as ended:
            tour.main([str(good), str(tmp_path / name), "--out", str(out)])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("python -m workshop.tour: '"), said
        assert f"{name}' {why}" in said and said.count("\n") == 1
    assert not out.exists()
    with pytest.raises(SystemExit) as ended:
        tour.main([str(good), "--out", str(good / "pages")])
    assert ended.value.code == 2 and "where a folder is needed" in capsys.readouterr().err


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_ends_the_tour_and_its_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ctrl_c = "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)"
    path = written(tmp_path / "a.ipynb", ctrl_c)
    other = written(tmp_path / "b.ipynb", "1")
    with pytest.raises(SystemExit) as ended:
        tour.main([str(path), str(other), "--out", str(tmp_path / "pages")])
    said = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 130
    assert said == (
        "python -m workshop.tour: Stopped. What was run is in the book; the same command begins anew."
    )
    assert not (tmp_path / "pages").exists(), "nor does the next one run"


def test_what_was_run_is_a_book_and_its_times_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times, out = tmp_path / "times.json", tmp_path / "pages"
    times.write_text('{"0": {"seconds": 9}, "a": {"seconds": 9}}')
    monkeypatch.setattr(tour, "TIMES", times)
    good, bad = written(tmp_path / "a.ipynb", "1"), written(tmp_path / "b.ipynb", "1 / 0")
    old = moved(tmp_path / "old.ipynb", "a")

    def ran(path: Path, timeout: int) -> tour.Visit:
        error = "b.ipynb: no" if path == bad else ""
        return tour.Visit(path, nbformat.read(path, as_version=4), 30.6, 900.4, error)

    monkeypatch.setattr(tour, "execute", ran)
    with pytest.raises(SystemExit) as ended:
        tour.main([*map(str, (old, bad, good)), "--times", "--out", str(out)])
    assert "b.ipynb: no" in str(ended.value.code)
    assert "| a | 31 s | 900 MiB |" in capsys.readouterr().out
    front = (out / "index.html").read_text("utf-8")
    assert 'href="a.html"' in front and 'href="old.html"' not in front and "b.ipynb: no" in front
    assert 'url=a.html"' in (out / "old.html").read_text("utf-8")
    kept = json.loads(times.read_text())
    assert kept == {"0": {"seconds": 9}, "a": {"seconds": 31, "mib": 900, "machine": tour.machine()}}


def test_one_that_moved_to_nowhere_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = moved(tmp_path / "old.ipynb", "gone.ipynb")
    with pytest.raises(SystemExit) as ended:
        tour.main([str(old), "--out", str(tmp_path / "pages")])
    assert ended.value.code == 2 and "now 'gone.ipynb', which is not there" in capsys.readouterr().err
