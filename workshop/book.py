"""The course as a book: Sphinx with the theme Furo around its notebooks.

    write_book(visits, Path("build/tour"))       # index, search, side navigation, the way to the next

Sphinx brings index, search (which works from a file, too) and navigation, Furo a page that fits a phone.
What stands on a page nbconvert writes and `cleaned` cleans (see pages.py), so that no part of a notebook
runs; nothing is fetched from a network.
"""

import html
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.parsers import Parser

from .ask.write import SCRIPTS, STYLE, TITLE, Recorded, body
from .pages import Visit, cards, parts, written

BOOK = "Where diffusion models look"
SUFFIX, ASK = ".json", "ask"
STATIC = "book.css"
INLINE = re.compile(r"`(?P<literal>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\*(?P<emphasis>[^*]+)\*")


def write_book(
    visits: list[Visit], out: Path, moved: Mapping[str, str] | None = None, asking: Recorded | None = None
) -> None:
    """Write `visits` as a book into the folder `out`. `moved`: {old page: new page}, to which the old one
    leads. `asking`: what the page in out/ask says of its trace, which then is a part of the book.

    Raises RuntimeError, with Sphinx's words, where a page could not be made.
    """
    names = {visit.path.stem: visit.name for visit in visits}
    with TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        for visit in visits:
            found = [
                {"level": p.level, "title": p.title, "html": written(p.cells, visit.path.parent, names)}
                for p in parts(visit)
            ]
            if visit.error:
                found[0]["html"] = f'<p class="error">{html.escape(visit.error)}</p>' + found[0]["html"]
            put(source / visit.name, found)
        pages = [visit.name for visit in visits]
        further = ""
        if asking:
            pages.append(ASK)
            put(source / ASK, [{"level": 1, "title": TITLE, "html": asked_in_the_book(asking)}])
            further = card_of(asking)
        put(source / "index", [{"level": 1, "title": BOOK, "html": cards(visits, further)}], pages)
        said = io.StringIO()
        app = Sphinx(source, None, out, Path(folder, "doctrees"), "html", SETTINGS, None, said, freshenv=True)
        app.build()
        if app.statuscode or not (out / "index.html").is_file():
            raise RuntimeError(f"The book could not be written: {said.getvalue()}")
    for old, new in (moved or {}).items():
        if (out / f"{new}.html").is_file():
            (out / f"{old}.html").write_text(REDIRECT.format(new=new), encoding="utf-8")


SETTINGS = {
    "extensions": ["workshop.book"],
    "project": BOOK,
    "html_theme": "furo",
    "html_title": BOOK,
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_copyright": False,
    "html_use_index": False,
    "html_static_path": [str(Path(__file__).with_name(STATIC))],
    "html_css_files": [STATIC],
}
REDIRECT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url={new}.html">
<link rel="canonical" href="{new}.html">
<title>This chapter has moved</title>
<p>This chapter has moved: <a href="{new}.html">{new}</a>.</p>
</html>
"""


def put(path: Path, found: list[dict], pages: list[str] | None = None) -> None:
    """A page as the parser below reads it."""
    path.with_name(path.name + SUFFIX).write_text(
        json.dumps({"parts": found, "pages": pages}), encoding="utf-8"
    )


class Pages(Parser):
    """Reads what `put` wrote: headings, which Sphinx has to know, and between them what is HTML already."""

    supported = ("page",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Fill `document`."""
        self.setup_parse(inputstring, document)
        page = json.loads(inputstring)
        above: list[nodes.Element] = [document]
        for part in page["parts"]:
            del above[part["level"] :]
            section = nodes.section(names=[nodes.fully_normalize_name(part["title"])])
            section += nodes.title(part["title"], "", *inline(part["title"]))
            document.note_implicit_target(section, section)
            section += nodes.raw("", part["html"], format="html")
            above[-1] += section
            above.append(section)
        if page["pages"]:
            above[1] += contents(page["pages"])
        self.finish_parse()


def inline(title: str) -> list[nodes.Node]:
    """A heading in Markdown as nodes: code, bold and italic words; all else is text, HTML included."""
    found: list[nodes.Node] = []
    at = 0
    for match in INLINE.finditer(title):
        kind = match.lastgroup
        found += [nodes.Text(title[at : match.start()]), getattr(nodes, kind)("", match[kind])]
        at = match.end()
    return [*found, nodes.Text(title[at:])]


def contents(pages: list[str]) -> addnodes.toctree:
    """The order of the pages, which makes the side navigation and the ways to the next one."""
    return addnodes.toctree(
        parent="index",
        entries=[(None, page) for page in pages],
        includefiles=pages,
        maxdepth=1,
        caption=None,
        glob=False,
        hidden=True,
        includehidden=False,
        numbered=0,
        titlesonly=True,
    )


def setup(app: Sphinx) -> dict:
    """Sphinx's way to ask an extension for what it brings."""
    app.add_source_suffix(SUFFIX, "page")
    app.add_source_parser(Pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def asked_in_the_book(recorded: Recorded) -> str:
    """The page that asks a trace, whose files lie in the folder ASK."""
    scripts = "".join(f'<script src="{ASK}/{name}"></script>' for name in SCRIPTS)
    return f'<link rel="stylesheet" href="{ASK}/{STYLE}">{body(recorded, f"{ASK}/")}{scripts}'


def card_of(recorded: Recorded) -> str:
    """The same in front."""
    return (
        f'<a class="card" href="{ASK}.html"><img src="{ASK}/picture.png" alt=""><div><h2>{TITLE}</h2>'
        "<p>Type any words, and see where a drawn picture has them. Nothing to install: your browser "
        f"calculates.</p><small>{recorded.megabytes:.0f} MB</small></div></a>"
    )
