"""The pages of the tour: readable without a kernel and without a network."""

import base64
import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from workshop.pages import WIDGET, Visit, index, page

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def of_text(text: str) -> Visit:
    return Visit(Path("a.ipynb"), new_notebook(cells=[new_markdown_cell(text)]), 75.2, 10)


@cache
def of_notebook(path: Path) -> str:
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


RUNS = """<img src=x onerror=alert(1)> <IMG SRC="javascript:alert(1)"> <details open ontoggle=x>a</details>
<svg onload=alert(1)><script>alert(1)</script></svg> <iframe srcdoc="<script>alert(1)</script>"></iframe>
<object data="data:text/html,<script>x</script>"></object> <a href="java\nscript:x" onclick="x">b</a>
<a href="data:text/html,<script>alert(1)</script>">c</a> <base href="https://example.org/">
<form action="https://example.org"><input autofocus onfocus=x><button formaction="javascript:x">d</button>
</form> <meta http-equiv="refresh" content="0; url=https://example.org"> <template><script>x</script>
</template> <style>body { background: url(https://example.org/x.png) }</style>
<link rel=stylesheet href="https://example.org">
<p style="background: url(https://example.org/x.png); color: red">e</p>
<math><mtext><style><img src=x onerror=alert(1)></style></mtext></math>
</main></body></html><script>alert(1)</script>"""
KEPT = {"src": r"data:image/png;base64,[\w+/=\n]+", "href": r"(https?:|#)[^\s]*", "style": r"color: red;"}


class Parts(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    handle_startendtag = handle_starttag


def test_nothing_of_a_notebook_runs() -> None:
    kinds = "text/markdown text/latex text/vnd.mermaid application/javascript".split()
    kinds += ["image/svg+xml", "image/png", "image/jpeg"]
    outputs = [
        new_output("display_data", {"text/html": RUNS, "text/plain": RUNS}),
        *(new_output("display_data", {kind: RUNS}) for kind in kinds),
        new_output("display_data", {"image/png": "AAAA"}, metadata={"width": "1 onerror=alert(1)"}),
        new_output("stream", name="stdout", text=RUNS),
    ]
    cells = [
        new_markdown_cell(f"# Title {RUNS}\n\nWords. {RUNS}"),
        new_markdown_cell(r"$\text{<img/src=x/onerror=alert(1)>} \href{javascript:x}{x}$ and %formula9%"),
        new_markdown_cell("![a](https://example.org/a.png) [b](javascript:x) <b onclick=alert(1)>bold</b>"),
        new_raw_cell(RUNS, metadata={"raw_mimetype": "text/html"}),
        new_code_cell(f"x = {RUNS!r}", outputs=outputs, metadata={"tags": ['"><script>x</script>']}),
    ]
    notebook = new_notebook(cells=cells, metadata={"title": f"</title>{RUNS}"})
    html = page(Visit(Path("a.ipynb"), notebook, 1, 1), set())
    head, text = html[: html.index("<body")], Parts(body(html))
    plain = page(of_text("words"), set())
    assert Parts(head).tags == Parts(plain[: plain.index("<body")]).tags
    assert not {*text.tags} & set(
        "script svg iframe object embed form input button meta base style link template video audio".split()
    )
    for name, value in text.attributes:
        assert not name.startswith("on") and name not in ("srcdoc", "formaction", "action", "srcset"), name
        assert name not in KEPT or re.fullmatch(KEPT[name], value), (name, value)
    assert html.endswith("</body>\n</html>\n") and html.count("</body>") == 1


def test_what_is_read_stays() -> None:
    picture = base64.b64encode(b"no picture, but letters").decode()
    table = '<table><tr><td style="color: red; position: fixed">1</td></tr></table>'
    outputs = [new_output("display_data", data) for data in ({"image/png": picture}, {"text/html": table})]
    text = "<details><summary>An answer</summary>\n\n**bold** %formula9% <br onclick='x'>\n\n</details>"
    cells = [new_markdown_cell(text), new_code_cell("a < b and '<script>'", outputs=outputs)]
    html = page(Visit(Path("a.ipynb"), new_notebook(cells=cells), 1, 1), set())
    assert f"data:image/png;base64,{picture}" in html and '<td style="color: red;">1</td>' in html
    assert "<summary>An answer</summary>" in html and "<strong>bold</strong> %formula9% <br" in html
    assert "&lt;script&gt;" in body(html) and "onclick" not in html


def test_names_of_files_and_pictures_are_escaped_in_front() -> None:
    name = '"><img src=x onerror=alert(1)> & 100% #1'
    shown = new_output("display_data", {"image/png": '"><script>alert(1)</script>'})
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[shown])])
    front = Parts(index([Visit(Path(f"{name}.ipynb"), notebook, 1, 1, error="<script>")]))
    assert front.tags.count("img") == 1 and "script" not in front.tags
    assert not [name for name, _ in front.attributes if name.startswith("on")]
    [place] = [value for name, value in front.attributes if name == "href"]
    assert unquote(place) == f"{name}.html" and "#" not in place


def test_a_title_is_taken_as_it_is() -> None:
    html = page(of_text(r"# \1 & \g<title>"), set())
    assert r"<title>\1 &amp; \g&lt;title&gt;</title>" in html


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestOfANotebook:
    def test_needs_nothing_from_the_network(self, path: Path) -> None:
        html = of_notebook(path)
        assert "<script" not in html
        assert not re.findall(r'(?:src|link [^>]*href)="https?://[^"]*"', html)


def test_where_a_widget_would_be_stands_the_picture_it_would_draw_first() -> None:
    widgets = 0
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        html = of_notebook(path).replace("\n", "")
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for before, cell in pairwise(code):
            if any(WIDGET in output.get("data", {}) for output in cell.outputs):
                [png] = [o.data["image/png"] for o in before.outputs if "image/png" in o.get("data", {})]
                assert png.replace("\n", "") in html, path.name
                widgets += 1
        assert "VBox(" not in html, path.name
    assert widgets, "no notebook holds a widget: this test would test nothing"
