"""Carry the repository's address from pyproject.toml into every notebook.

    python -m workshop.make.address                                  # for a new notebook
    python -m workshop.make.address https://github.com/OWNER/NAME    # after a move: into pyproject.toml too

Each notebook gets badges under its title, which open it in Colab and on Binder, and the same first cell,
which fetches the package where it is missing. That is on Colab, whose torch, numpy and IPython fulfil the
lower bounds and so stay as they are.
"""

import argparse
import re
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "pyproject.toml"

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
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        write_into(notebook, path.name)
        if nbformat.writes(notebook) != before:
            nbformat.write(notebook, path)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
