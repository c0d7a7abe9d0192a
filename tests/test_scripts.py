"""The scripts that prove the course: which cells a name needs, how far an assertion is from failing."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from shared_fixtures import bundled_pipe

from workshop.measure import arithmetic, chapters, margins, vocabulary


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    cells = (
        "import math\nradius = 2",
        "unused = 1 / 0",
        "def area(r):\n    return math.pi * r**2",
        "radius += 1",
        "size = area(radius)\nassert 20 < size < 30 and size != 5\nassert all(x > 1 for x in (2, 3))",
    )
    path = tmp_path / "01_circles.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# T"), *map(new_code_cell, cells)]), path)
    return path


def test_only_what_a_name_needs_is_run(notebook: Path) -> None:
    own = chapters.needed(chapters.cells(notebook), {"size"})
    assert [cell.number for cell in own] == [1, 3, 4, 5]
    assert chapters.run(own)["size"] == pytest.approx(28.274, abs=1e-3)


def test_a_cell_may_show_something_as_in_jupyter(tmp_path: Path, capsys) -> None:
    nbformat.write(new_notebook(cells=[new_code_cell("display('a mask')")]), tmp_path / "03_shown.ipynb")
    chapters.run(chapters.cells(tmp_path / "03_shown.ipynb"))
    assert "a mask" in capsys.readouterr().out


def test_both_sides_of_an_order_are_noted(notebook: Path, monkeypatch) -> None:
    own = [cell for cell in chapters.cells(notebook) if "1 / 0" not in cell.code]
    monkeypatch.setattr(chapters, "cells", lambda path: own)
    (low, lowest), (high, highest) = margins.measure(notebook)
    assert low == "01 cell  5: 20 < size" and lowest == pytest.approx(8.274, abs=1e-3)
    assert high == "01 cell  5: size < 30" and highest == pytest.approx(1.726, abs=1e-3)


def test_a_claim_that_fails_is_still_noted(tmp_path: Path) -> None:
    nbformat.write(new_notebook(cells=[new_code_cell("assert 1 > 3")]), tmp_path / "02_wrong.ipynb")
    with pytest.raises(AssertionError):
        margins.measure(tmp_path / "02_wrong.ipynb")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these kernels are x86's")
@pytest.mark.parametrize("kernels", [name for name in arithmetic.KERNELS if name != "native"])
@pytest.mark.slow
def test_arithmetic_reaches_the_kernels(kernels: str) -> None:
    """Nothing that is asserted under another arithmetic means much if PyTorch went on as before."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    command = [sys.executable, arithmetic.__file__, kernels, "2", "--", sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout.split()
    assert said == [{"avx2": "AVX2", "sse": "DEFAULT"}[kernels], "2"]


def test_arithmetic_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"no arithmetic 'x87': say native"):
        arithmetic.environment("x87", 1)


def test_the_cost_of_a_vocabulary(monkeypatch) -> None:
    monkeypatch.setattr(vocabulary, "SIDE", 96)
    few, more = (vocabulary.measure(count, "apart") for count in (8, 9))
    assert 0 < few["passes"] < more["passes"], "eight texts are a batch, nine are two"
    assert all(row["with scores"] >= row["peak"] >= 0 and row["seconds"] > 0 for row in (few, more))
    pipe = bundled_pipe()
    words = vocabulary.words_of(pipe, 500)
    assert len(set(words)) == 500 and {"cat", "car"} <= {*words} and "," not in words
    with pytest.raises(ValueError, match="words, not 1000000: ask for fewer"):
        vocabulary.words_of(pipe, 10**6)
