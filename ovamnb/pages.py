"""Notebooks as pages that can be read anywhere: no kernel, no network."""

import copy
import html
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

import latex2mathml.converter
import nbformat
import torch
from nbconvert import HTMLExporter

FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)|\$\$(?P<display>.+?)\$\$|(?<!\\)\$(?!\s)(?P<inline>[^$]+?)(?<!\s)\$(?!\d)",
    re.S,
)
WIDGET = "application/vnd.jupyter.widget-view+json"
NO_KERNEL = {"text/html": "<em>Here stands a widget when a kernel runs.</em>"}


@dataclass
class Visit:
    """One notebook of the tour, after its run."""

    path: Path
    notebook: nbformat.NotebookNode
    seconds: float
    mib: float
    error: str = ""  # empty, or which cell failed and how

    def about(self) -> tuple[str, str]:
        """Title and first paragraph, as plain text."""
        text = "\n\n".join(c.source for c in self.notebook.cells if c.cell_type == "markdown")
        title = re.search(r"^# (.+)", text, re.M)
        blocks = [b.strip() for b in re.split(r"\n\s*\n", re.sub(r"^#.*$", "", text, flags=re.M))]
        lead = next((b for b in blocks if re.match(r"[\w*_`\"“(]", b)), "")
        bare = re.sub(r"[*`]|\[([^]]*)\]\([^)]*\)", r"\1", lead)
        return re.sub(r"[*`]", "", title[1] if title else self.path.stem), bare

    def picture(self) -> str:
        """The first image that the notebook shows, as base64 PNG; empty if it shows none."""
        shown = (o.get("data", {}) for c in self.notebook.cells for o in c.get("outputs", []))
        return next((data["image/png"].replace("\n", "") for data in shown if "image/png" in data), "")


def page(visit: Visit, names: set[str]) -> str:
    """The notebook as one HTML page that needs no network: pictures and formulas inside, no scripts; links to
    other notebooks are turned to their pages."""
    notebook = copy.deepcopy(visit.notebook)
    formulas: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FORMULA.sub(lambda found: held_place(found, formulas), cell.source)
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output.data = nbformat.NotebookNode(NO_KERNEL)
    exporter = HTMLExporter(embed_images=True)
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(visit.path.parent)}})
    text = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    text = re.sub(r'<img alt="([^"]*)" src="https?:[^>]*>', r"\1", text)  # a badge: its words, linked
    text = re.sub(r"%formula(\d+)%", lambda place: formulas[int(place[1])], text)
    text = re.sub(r"<title>.*?</title>", f"<title>{html.escape(visit.about()[0])}</title>", text, count=1)
    return re.sub(
        r'href="(?:\./)?([\w.-]+)\.ipynb', lambda m: m[0][:-6] + ".html" if m[1] in names else m[0], text
    )


def held_place(found: re.Match, formulas: list[str]) -> str:
    """What stands for a formula until the page is made, since nbconvert tears MathML apart; `formulas` gets
    the MathML, which browsers draw by themselves. Code is left as it is."""
    if found["code"]:
        return found["code"]
    display = "block" if found["display"] else "inline"
    formulas.append(latex2mathml.converter.convert(found[found.lastgroup].strip(), display=display))
    return f"%formula{len(formulas) - 1}%"


def index(visits: list[Visit]) -> str:
    """The page in front: a card for each notebook."""
    cards = []
    for visit in visits:
        title, lead = map(html.escape, visit.about())
        picture = visit.picture() and f'<img src="data:image/png;base64,{visit.picture()}" alt="">'
        failed = visit.error and f'<p class="error">{html.escape(visit.error)}</p>'
        cards.append(
            f'<a class="card" href="{visit.path.stem}.html">{picture}<div><h2>{title}</h2><p>{lead}</p>'
            f"{failed}<small>{clock(visit.seconds)} · {visit.mib:,.0f} MiB at most</small></div></a>"
        )
    template = Template((Path(__file__).parent / "assets" / "tour.html").read_text())
    total = clock(sum(v.seconds for v in visits))
    return template.substitute(cards="\n".join(cards), machine=html.escape(machine()), total=total)


def clock(seconds: float) -> str:
    """`75.2` → `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def machine() -> str:
    """What the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    return f"{device}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
