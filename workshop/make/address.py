"""Carry the repository's address into every notebook; where a chapter was before, lead on.

    python -m workshop.make.address                                  # for a new notebook
    python -m workshop.make.address https://github.com/OWNER/NAME    # after a move: into pyproject.toml too

Each notebook gets badges under its title, which open it in Colab and on Binder, and the same first cell,
which fetches the package where it is missing. That is on Colab, whose torch, numpy and IPython fulfil the
lower bounds and so stay as they are. At the address that a chapter had in the first edition stays a notebook
of one cell, with a link to the chapter.
"""

import argparse
import re
import tomllib
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

from workshop.measure.chapters import paths

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "pyproject.toml"

MOVED = {
    "01_attention_hooking": "02_attention_hooking",
    "02_open_vocabulary_maps": "03_any_word",
    "03_self_attention_refinement": "04_what_belongs_together",
    "04_token_optimization": "05_a_better_word",
    "05_segmenting_real_images": "06_images_it_did_not_make",
    "06_evaluation": "07_when_is_a_number_true",
    "07_synthetic_data": "08_labels_out_of_words",
}
"""Where chapters were, and where they are."""
FIRST_CELL = """\
try:
    import ovamnb as ov
except ModuleNotFoundError:  # on Colab
    %pip install -q git+{address}
    import ovamnb as ov

settings = ov.setup_notebook()  # another model: ov.setup_notebook(model="sd15")"""


def address() -> str:
    """Where the repository lives."""
    return tomllib.loads(PROJECT.read_text())["project"]["urls"]["Repository"]


def badges(name: str) -> str:
    """One line of Markdown: the notebook `name` in Colab and on Binder."""
    place = address().removeprefix("https://github.com/")  # owner/name
    colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{place}/main?urlpath=lab/tree/notebooks/{name}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
        f"[![Open on Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def write_into(notebook: nbformat.NotebookNode, name: str) -> None:
    """Set the badges and the first code cell; both are replaced where they stood already."""
    title = notebook.cells[0]
    heading, _, rest = title.source.partition("\n")
    rest = re.sub(r"\[!\[[^]]*\]\([^)]*\)\]\([^)]*\)\n?", "", rest).strip("\n")
    title.source = f"{heading}\n\n{badges(name)}\n\n{rest}"
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = FIRST_CELL.format(address=address())


def signpost(new: str) -> nbformat.NotebookNode:
    """The notebook that stays at an old address: a link to the chapter's new one."""
    text = f"# This chapter has moved\n\nIt is now [{new}.ipynb]({new}.ipynb)."
    notebook = new_notebook(
        cells=[new_markdown_cell(text, id="moved")], metadata={"ovamnb": {"moved_to": new}}
    )
    notebook.nbformat_minor = 5
    return notebook


def main() -> None:
    """Rewrite what differs, and say so."""
    parser = argparse.ArgumentParser(
        prog="python -m workshop.make.address", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("url", nargs="?", help="https://github.com/OWNER/NAME")
    url = parser.parse_args().url
    if url and not re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", url):
        parser.error(f"{url!r} is no address like https://github.com/OWNER/NAME")
    if url:
        PROJECT.write_text(PROJECT.read_text().replace(f'"{address()}"', f'"{url}"'))
    for old, new in MOVED.items():
        nbformat.write(signpost(new), ROOT / "notebooks" / f"{old}.ipynb")
    for path in paths():
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        write_into(notebook, path.name)
        if nbformat.writes(notebook) != before:
            nbformat.write(notebook, path)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
