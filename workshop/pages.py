"""Notebooks as text that can be read anywhere: no kernel, no network, and nothing in it that runs."""

import copy
import html
import os
import platform
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import bleach
import latex2mathml.converter
import nbformat
import torch
from bleach.css_sanitizer import CSSSanitizer
from nbconvert import HTMLExporter

ASIDE = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)|(?P<fold></?details\b[^>]*>(?:\s*<summary\b[^>]*>.*?</summary>)?)|"
    r"\$\$(?P<display>.+?)\$\$|(?<!\\)\$(?!\s)(?P<inline>[^$]+?)(?<!\s)\$(?!\d)",
    re.S,
)
PICTURE = re.compile(
    r'(?<=src=")data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*(?=")', re.ASCII
)
MATH = """
math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow mspace msqrt mstyle
msub msubsup msup mtable mtd mtext mtr munder munderover none semantics
""".split()
TAGS = """
a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4
h5 h6 hr i img ins kbd li main mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot
th thead tr u ul var
""".split()
IN_MATH = """
accent columnalign columnspacing displaystyle fence form height lspace mathcolor mathsize mathvariant maxsize
minsize notation rowspacing rspace scriptlevel separator stretchy width xmlns display linethickness
""".split()
ATTRIBUTES = {
    "*": "class id title alt lang dir role tabindex style open width height colspan rowspan start".split(),
    "a": ["href"],
    **dict.fromkeys(MATH, IN_MATH),
}
WIDGET = "application/vnd.jupyter.widget-view+json"
NO_KERNEL = {"text/html": "<em>Here stands a widget when a kernel runs.</em>"}


def page_name(path: Path) -> str:
    """What a notebook's page is called: as itself, where that does no harm in an address."""
    return re.sub(r"[^\w.-]+", "-", path.stem)


@dataclass
class Visit:
    """One notebook of the tour, after its run."""

    path: Path
    notebook: nbformat.NotebookNode
    seconds: float
    mib: float
    error: str = ""  # empty, or which cell failed and how

    @property
    def name(self) -> str:
        """What its page is called."""
        return page_name(self.path)

    def about(self) -> tuple[str, str]:
        """Title and first paragraph, as plain text."""
        text = "\n\n".join(c.source for c in self.notebook.cells if c.cell_type == "markdown")
        title = re.search(r"^# (.+)", text, re.M)
        blocks = [b.strip() for b in re.split(r"\n\s*\n", re.sub(r"^#.*$", "", text, flags=re.M))]
        lead = next((b for b in blocks if re.match(r"[\w*_`\"“(]", b)), "")
        bare = re.sub(r"[*`]|\[([^]]*)\]\([^)]*\)", r"\1", lead)
        return re.sub(r"[*`]", "", title[1] if title else self.path.stem), bare

    def picture(self) -> str:
        """The first image that the notebook shows, as base64 PNG, a drawn diagram only if there is no other;
        empty if it shows none. (A diagram's words cannot be read as small as a card.)"""
        found = {"diagram": "", "result": ""}
        for cell in self.notebook.cells[::-1]:
            kind = "diagram" if "diagram()" in cell.source else "result"
            for output in cell.get("outputs", [])[::-1]:
                found[kind] = output.get("data", {}).get("image/png", "").replace("\n", "") or found[kind]
        return found["result"] or found["diagram"]


@dataclass(frozen=True)
class Part:
    """What stands under one heading: its `level` (1: the title), the heading in Markdown, the cells."""

    level: int
    title: str
    cells: list[nbformat.NotebookNode]


def parts(visit: Visit) -> list[Part]:
    """The notebook, cut at its headings; the first part has level 1, and none is two below the one before.
    A heading inside a fold (`<details>`) belongs to the text there, as one in code does."""
    found, titled = [Part(1, visit.path.stem, [])], False
    for cell in copy.deepcopy(visit.notebook.cells):
        if cell.cell_type != "markdown":
            found[-1].cells.append(cell)
            continue
        for level, title, text in pieces(cell.source):
            if title and level == 1 and not titled and len(found) == 1:
                found, titled = [Part(1, title, found[0].cells)], True
            elif title:
                found.append(Part(min(max(level, 2), found[-1].level + 1), title, []))
            if text.strip():
                found[-1].cells.append(nbformat.v4.new_markdown_cell(text, metadata=cell.metadata))
    return found


def pieces(source: str) -> list[tuple[int, str, str]]:
    """Markdown cut at its headings of three levels: (level, title, text below); at first without a title."""
    found, fenced, folded = [(0, "", [])], False, 0
    for line in source.split("\n"):
        if re.match(r" {0,3}(```|~~~)", line):
            fenced = not fenced
        folded += 0 if fenced else line.count("<details") - line.count("</details")
        heading = None if fenced or folded > 0 else re.match(r"(#{1,3}) +(.*\S)", line)
        if heading:
            found.append((len(heading[1]), heading[2].rstrip("# "), []))
        else:
            found[-1][2].append(line)
    return [(level, title, "\n".join(lines)) for level, title, lines in found]


def written(cells: list[nbformat.NotebookNode], folder: Path, names: Collection[str]) -> str:
    """Cells as HTML that needs no network: pictures and formulas inside, no scripts, nor anything else that
    runs, whoever wrote it; links to the notebooks in `names` are turned to their pages."""
    held = Held()
    for cell in (cells := copy.deepcopy(cells)):
        if cell.cell_type == "markdown":
            cell.source = ASIDE.sub(lambda found: held_place(found, held), cell.source)
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output.data = nbformat.NotebookNode(NO_KERNEL)
    notebook = nbformat.v4.new_notebook(cells=cells)
    text, _ = exporter().from_notebook_node(notebook, {"metadata": {"path": str(folder)}})
    link = r'href="(?:\./)?([\w.-]+)\.ipynb'
    turned = lambda found: f'href="{found[1]}.html' if found[1] in names else found[0]  # noqa: E731
    text = re.sub(rf"<p>({held.token}\d+x)</p>", r"\1", text)  # a fold is no paragraph
    return re.sub(link, turned, cleaned(held.back(text)))


@cache
def exporter() -> HTMLExporter:
    """nbconvert's, which writes cells alone."""
    left_out = {"exclude_input_prompt": True, "exclude_output_prompt": True, "exclude_anchor_links": True}
    return HTMLExporter(template_name="basic", embed_images=True, **left_out)


class Held:
    """What is taken out of a text for a while, behind a word that nobody can have written before."""

    def __init__(self) -> None:
        self.token, self.parts = f"held{secrets.token_hex(8)}x", []

    def take(self, part: str) -> str:
        """What stands for `part` from now on."""
        self.parts.append(part)
        return f"{self.token}{len(self.parts) - 1}x"

    def back(self, text: str) -> str:
        """The text with all its parts in their places."""
        return re.sub(rf"{self.token}(\d+)x", lambda place: self.parts[int(place[1])], text)


def held_place(found: re.Match, held: Held) -> str:
    """What stands for a formula or the edge of a fold until the page is made, since nbconvert tears MathML
    apart, which browsers draw by themselves, and closes a fold where it opens. Code is left as it is."""
    if found["code"]:
        return found["code"]
    if found["fold"]:
        return held.take(found["fold"])
    display = "block" if found["display"] else "inline"
    return held.take(latex2mathml.converter.convert(found[found.lastgroup].strip(), display=display))


def cleaned(body: str) -> str:
    """HTML of which only what is read stays: TAGS and their harmless attributes; pictures that lie inside.

    By bleach, which nbconvert needs itself and which parses as browsers do, as no regular expression does.
    nbconvert's own cleaning knows neither headings nor pictures.
    """
    held = Held()
    body = re.sub(r"<(script|style)\b.*?</\1\s*>", "", body, flags=re.S | re.I)  # else their text would stay
    body = re.sub(r'<img alt="([^"]*)" src="https?:[^>]*>', r"\1", body)  # a badge: its words, linked
    body = PICTURE.sub(lambda found: held.take(found[0]), body)  # megabytes that need no parser

    def allowed(tag: str, name: str, value: str) -> bool:
        if name == "src":
            return tag == "img" and value.startswith(held.token)
        return (
            name in ATTRIBUTES.get(tag, ()) or name in ATTRIBUTES["*"] or name.startswith(("data-", "aria-"))
        )

    styles = CSSSanitizer()
    return held.back(bleach.clean(body, {*TAGS, *MATH}, allowed, css_sanitizer=styles, strip_comments=True))


def cards(visits: list[Visit], further: str = "") -> str:
    """The page in front: a card for each notebook."""
    shown = []
    for visit in visits:
        title, lead = map(html.escape, visit.about())
        png = visit.picture()
        whole = re.fullmatch(r"[A-Za-z0-9+/=]+", png)
        picture = f'<img src="data:image/png;base64,{png}" alt="">' if whole else ""
        failed = visit.error and f'<p class="error">{html.escape(visit.error)}</p>'
        shown.append(
            f'<a class="card" href="{visit.name}.html">{picture}<div><h2>{title}</h2><p>{lead}</p>'
            f"{failed}<small>{clock(visit.seconds)} · {visit.mib:,.0f} MiB at most</small></div></a>"
        )
    template = Template((Path(__file__).with_name("tour.html")).read_text("utf-8"))
    total = clock(sum(v.seconds for v in visits))
    return template.substitute(
        cards="\n".join(shown), further=further, machine=html.escape(machine()), total=total
    )


def clock(seconds: float) -> str:
    """`75.2` → `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def machine() -> str:
    """What the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    return f"{device}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
