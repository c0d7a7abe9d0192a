"""The pages of the tour, and the book they make: readable without a kernel and without a network."""

import base64
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from workshop.book import write_book
from workshop.pages import WIDGET, Visit, cards, parts, written

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def of_text(text: str) -> Visit:
    return Visit(Path("a.ipynb"), new_notebook(cells=[new_markdown_cell(text)]), 75.2, 10)


def text_of(visit: Visit, names: tuple[str, ...] = ()) -> str:
    """All that stands below the headings of a page."""
    return "".join(written(part.cells, visit.path.parent, names) for part in parts(visit))


@cache
def of_notebook(path: Path) -> str:
    return text_of(Visit(path, nbformat.read(path, as_version=4), 1, 1))


@pytest.mark.parametrize(
    ("shown", "card"),
    [
        ([("chapter.diagram()", "drawn"), ("maps", ""), ("sheet", "one"), ("sheet", "two")], "one"),
        ([("maps", ""), ("chapter.diagram()", "drawn")], "drawn"),
        ([("maps", "")], ""),
    ],
)
def test_a_card_shows_the_first_result_before_a_diagram(shown: list, card: str) -> None:
    cells = [new_markdown_cell("# T")]
    for code, png in shown:
        output = new_output("display_data", {"image/png": png} if png else {"text/plain": "1"})
        cells.append(new_code_cell(code, outputs=[output]))
    assert Visit(Path("a.ipynb"), new_notebook(cells=cells), 1, 1).picture() == card


def test_formulas_are_drawn_by_the_browser_itself() -> None:
    html = text_of(of_text("# T\n\nHere $a_{i*}$ and\n\n$$\\frac{x}{\\sqrt{d}}\\tag{1}$$\n\nend."))
    assert html.count("<math") == html.count("</math>") == 2 and "<msqrt>" in html
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in html
    assert "formula" not in html and "$" not in html


def test_code_and_prices_are_no_formulas() -> None:
    html = text_of(of_text("`$a$` costs 5$ or 6$.\n\n```\n$$b$$\n```"))
    assert "<math" not in html and "$a$" in html and "$$b$$" in html and "5$ or 6$" in html


def test_the_page_in_front_shows_title_question_and_cost() -> None:
    front = cards([of_text("# A *title*\n\nThe **first** [words](b.ipynb).")])
    for shown in ("A title", "The first words.", "1 min 15 s", "10 MiB", 'href="a.html"'):
        assert shown in front


FOLD = (
    "<details><summary>An answer</summary>\n\n## No part\n\n**bold** $x^2$\n\n```python\n# none\n```\n\n"
    "</details>"
)


def test_a_page_is_cut_at_its_headings_but_not_in_code_or_folds() -> None:
    text = f"words\n# A title #\n\n## One\n```\n## none\n```\n\n#### deep\n{FOLD}\n\n#### deeper\n"
    found = parts(of_text(f"{text}# Two\n### Three"))
    named = [(part.level, part.title) for part in found]
    assert named == [(1, "A title"), (2, "One"), (2, "Two"), (3, "Three")]
    assert found[0].cells[0].source == "words"
    assert found[1].cells[0].source.endswith("#### deeper") and not found[3].cells
    found = parts(of_text("# A title\n\nwords\n\n### Deep"))
    assert [(part.level, part.title) for part in found] == [(1, "A title"), (2, "Deep")]


def test_a_fold_holds_what_is_between_its_ends() -> None:
    html = text_of(of_text(f"before\n\n{FOLD}\n\nafter `<details>`"))
    fold = html[html.index("<details>") : html.index("</details>")]
    for inside in ("<summary>An answer</summary>", "<strong>bold</strong>", "<math", "# none", "No part"):
        assert inside in fold, inside
    assert "before" not in fold and "after <code>&lt;details&gt;</code>" in html.split("</details>")[1]


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
KEPT = {
    "src": r"data:image/(?:png|jpeg|svg\+xml);base64,[\w+/=\n]+",
    "href": r"(https?:|#|[\w.-]+\.html)[^\s]*",
    "style": r"color: red;",
}


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


def test_nothing_of_a_notebook_runs(tmp_path: Path) -> None:
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
    name = '"><img src=x onerror=alert(1)> & 100% #1'
    notebook = new_notebook(cells=cells, metadata={"title": f"</title>{RUNS}"})
    nasty = Visit(Path(f"{name}.ipynb"), notebook, 1, 1, error="<script>x</script>")
    write_book([nasty], tmp_path / "nasty")
    write_book([of_text("# words")], tmp_path / "plain")
    ours = (tmp_path / "plain" / "a.html").read_text("utf-8")
    whole = (tmp_path / "nasty" / f"{nasty.name}.html").read_text("utf-8")
    assert Parts(whole[: whole.index("<body")]).tags == Parts(ours[: ours.index("<body")]).tags
    assert Parts(whole).tags.count("script") == Parts(ours).tags.count("script")
    for html in (article(whole), article((tmp_path / "nasty" / "index.html").read_text("utf-8"))):
        text = Parts(html)
        assert not {*text.tags} & set(
            "script iframe object embed form input meta base style link template video audio".split()
        )
        for name, value in text.attributes:
            assert not name.startswith("on") and name not in ("srcdoc", "formaction", "action", "srcset"), (
                name
            )
            assert name not in KEPT or re.fullmatch(KEPT[name], value), (name, value)
    assert whole.count("</body>") == 1


def article(html: str) -> str:
    """What of a page is not Furo's."""
    return html[html.index("<article") : html.index("</article>")]


def test_what_is_read_stays() -> None:
    picture = base64.b64encode(b"no picture, but letters").decode()
    table = '<table><tr><td style="color: red; position: fixed">1</td></tr></table>'
    outputs = [new_output("display_data", data) for data in ({"image/png": picture}, {"text/html": table})]
    text = "<details><summary>An answer</summary>\n\n**bold** %formula9% <br onclick='x'>\n\n</details>"
    cells = [new_markdown_cell(text), new_code_cell("a < b and '<script>'", outputs=outputs)]
    html = text_of(Visit(Path("a.ipynb"), new_notebook(cells=cells), 1, 1))
    assert f"data:image/png;base64,{picture}" in html and '<td style="color: red;">1</td>' in html
    assert "<summary>An answer</summary>" in html and "<strong>bold</strong> %formula9% <br" in html
    assert "&lt;script&gt;" in html and "onclick" not in html


def test_names_of_files_and_pictures_are_escaped_in_front() -> None:
    name = '"><img src=x onerror=alert(1)> & 100% #1'
    shown = new_output("display_data", {"image/png": '"><script>alert(1)</script>'})
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[shown])])
    front = Parts(cards([Visit(Path(f"{name}.ipynb"), notebook, 1, 1, error="<script>")]))
    assert "img" not in front.tags and "script" not in front.tags
    assert not [name for name, _ in front.attributes if name.startswith("on")]
    [place] = [value for name, value in front.attributes if name == "href"]
    assert re.fullmatch(r"[\w.-]+\.html", place)


class TestTheBook:
    @pytest.fixture(scope="class")
    @classmethod
    def book(cls, tmp_path_factory) -> Path:
        out = tmp_path_factory.mktemp("book")
        first = of_text(
            r"# \1 & \g<title> of `code`" + "\n\nOn [b](b.ipynb#x), not [c](c.ipynb).\n\n## Zebras"
        )
        second = Visit(
            Path("b.ipynb"), of_text("# *Second*\n\nword").notebook, 1, 1, error="b.ipynb, cell 2: a < b"
        )
        write_book([first, second], out, {"old": "b", "older": "gone"})
        return out

    def test_a_title_is_taken_as_it_is(self, book: Path) -> None:
        html = (book / "a.html").read_text("utf-8")
        assert r"<title>\1 &amp; \g&lt;title&gt; of code" in html and '<span class="pre">code</span>' in html

    def test_links_lead_to_pages_that_are_there(self, book: Path) -> None:
        html = article((book / "a.html").read_text("utf-8"))
        assert 'href="b.html#x"' in html and 'href="c.ipynb"' in html

    def test_it_goes_on_to_the_next_page(self, book: Path) -> None:
        [after] = re.findall(r'class="next-page" href="([^"]*)"', (book / "a.html").read_text("utf-8"))
        [before] = re.findall(r'class="prev-page" href="([^"]*)"', (book / "b.html").read_text("utf-8"))
        assert (after, before) == ("b.html", "a.html")

    def test_words_are_found_on_their_page(self, book: Path) -> None:
        words = (book / "searchindex.js").read_text("utf-8")
        assert re.search(r'"?zebra"?:\[?\d', words) and '"Second"' in words

    def test_an_error_stands_in_front_and_on_its_page(self, book: Path) -> None:
        for name in ("index.html", "b.html"):
            assert "b.ipynb, cell 2: a &lt; b" in article((book / name).read_text("utf-8"))

    def test_an_old_address_leads_to_the_new_one(self, book: Path) -> None:
        assert 'content="0; url=b.html"' in (book / "old.html").read_text("utf-8")
        assert not (book / "older.html").exists()
        assert "old" not in re.findall(r'href="([\w.-]+)\.html"', (book / "index.html").read_text("utf-8"))

    def test_nothing_comes_from_the_network(self, book: Path) -> None:
        for page in book.glob("*.html"):
            for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text("utf-8")):
                assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), (page.name, tag)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestOfANotebook:
    def test_needs_nothing_from_the_network(self, path: Path) -> None:
        html = of_notebook(path)
        assert "<script" not in html
        assert not re.findall(r'(?:src|link [^>]*href)="https?://[^"]*"', html)


def test_beside_a_widget_stands_a_picture_for_who_only_reads() -> None:
    widgets = 0
    for path in NOTEBOOKS:
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        html = of_notebook(path).replace("\n", "")
        for at, cell in enumerate(code):
            if any(WIDGET in output.get("data", {}) for output in cell.outputs):
                beside = [o.get("data", {}) for c in code[max(0, at - 1) : at + 2] for o in c.outputs]
                pngs = [data["image/png"] for data in beside if "image/png" in data]
                assert pngs and all(png.replace("\n", "") in html for png in pngs), path.name
                widgets += 1
        assert "VBox(" not in html, path.name
    assert widgets, "no notebook holds a widget: this test would test nothing"
