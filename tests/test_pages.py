"""The pages of the tour: readable without a kernel and without a network."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from ovamnb.pages import WIDGET, Visit, index, page

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def of_text(text: str) -> Visit:
    return Visit(Path("a.ipynb"), new_notebook(cells=[new_markdown_cell(text)]), 75.2, 10)


@cache
def rendered(path: Path) -> str:
    """The page of a stored notebook."""
    return page(Visit(path, nbformat.read(path, as_version=4), 1, 1), set())


def body(html: str) -> str:
    return html[html.index("<body") :]


def test_formulas_are_drawn_by_the_browser_itself() -> None:
    html = body(page(of_text("# T\n\nHere $a_{i*}$ and\n\n$$\\frac{x}{\\sqrt{d}}\\tag{1}$$\n\nend."), set()))
    assert html.count("<math") == html.count("</math>") == 2 and "<msqrt>" in html
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in html
    assert "formula" not in html and "$" not in html


def test_code_and_prices_are_no_formulas() -> None:
    html = body(page(of_text("`$a$` costs 5$ or 6$.\n\n```\n$$b$$\n```"), set()))
    assert "<math" not in html and "$a$" in html and "$$b$$" in html and "5$ or 6$" in html


def test_the_page_in_front_shows_title_question_and_cost() -> None:
    front = index([of_text("# A *title*\n\nThe **first** [words](b.ipynb).")])
    for shown in ("A title", "The first words.", "1 min 15 s", "10 MiB", 'href="a.html"'):
        assert shown in front


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestOfANotebook:
    def test_needs_nothing_from_the_network(self, path: Path) -> None:
        html = rendered(path)
        assert "<script" not in html
        assert not re.findall(r'(?:src|link [^>]*href)="https?://[^"]*"', html)


def test_where_a_widget_would_be_stands_the_picture_it_would_draw_first() -> None:
    widgets = 0
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        html = rendered(path).replace("\n", "")
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for before, cell in pairwise(code):
            if any(WIDGET in output.get("data", {}) for output in cell.outputs):
                [png] = [o.data["image/png"] for o in before.outputs if "image/png" in o.get("data", {})]
                assert png.replace("\n", "") in html, path.name
                widgets += 1
        assert "VBox(" not in html, path.name
    assert widgets, "no notebook holds a widget: this test would test nothing"
