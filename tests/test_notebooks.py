"""What a stored notebook promises, so that re-running it compares something and its diff can be read.

nbval skips without a word what it cannot compare: a notebook with stripped outputs, or with pictures
only, passes.
"""

import re
from pathlib import Path

import nbformat
import pytest

from workshop.make import address, lengths
from workshop.measure import chapters

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = chapters.paths()
COMPARED_AT_LEAST = 0.5  # of a notebook's cells that print something
LARGEST = 2**20  # bytes
PLACES = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|mnt|opt|usr|var|content|Users)/[\w.-]+|\b[A-Z]:\\\\?Users"
)
EMPTY_TEXT = re.compile(r"<Figure size.*>|<PIL\..*>|<IPython\..*>|<Axes.*>|\w+\(children=.*\)|\s*", re.S)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    """The code cells that hold code."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def texts(output: nbformat.NotebookNode) -> list[str]:
    """All that an output says in words: stream, plain text, HTML, traceback; pictures left out."""
    data = [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    said = [output.get("text", ""), *data, *output.get("traceback", [])]
    return [re.sub(r"data:[\w/+-]+;base64,[\w+/=]+", "", text) for text in said]


def is_compared(cell: nbformat.NotebookNode) -> bool:
    """Whether nbval would notice a change in what the cell says: run, not ignored, more than a picture."""
    tags = set(cell.metadata.get("tags", []))
    ignored = tags & {"nbval-ignore-output", "nbval-skip"}
    if ignored or cell.execution_count is None or re.search(r"^# ?NBVAL_(IGNORE|SKIP)", cell.source, re.M):
        return False
    return prints(cell)


def prints(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell says more than a picture."""
    said = [
        output for output in cell.outputs if output.output_type != "error" and output.get("name") != "stderr"
    ]
    return any(not EMPTY_TEXT.fullmatch(text) for output in said for text in texts(output))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "notebooks/ is empty: the tests below would all pass by testing nothing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestStored:
    def test_was_run_from_top_to_bottom_on_a_fresh_kernel(self, path: Path) -> None:
        counts = [cell.execution_count for cell in code_cells(path)]
        assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"

    def test_holds_no_error(self, path: Path) -> None:
        for cell in code_cells(path):
            if "raises-exception" not in cell.metadata.get("tags", []):
                assert all(output.output_type != "error" for output in cell.outputs), cell.source

    def test_is_small(self, path: Path) -> None:
        assert path.stat().st_size < LARGEST, (
            f"{path.stat().st_size / 2**20:.1f} MiB: smaller or fewer figures"
        )

    def test_names_no_place_of_the_machine_it_ran_on(self, path: Path) -> None:
        outputs = [output for cell in code_cells(path) for output in cell.outputs]
        found = [m[0] for output in outputs for text in texts(output) for m in PLACES.finditer(text)]
        assert not found

    def test_says_enough_for_nbval_to_compare(self, path: Path) -> None:
        cells = code_cells(path)
        compared, printing = sum(map(is_compared, cells)), sum(map(prints, cells))
        assert compared >= COMPARED_AT_LEAST * printing > 0, f"{compared} of {printing} printing cells"

    def test_opens_in_colab_on_binder_and_here(self, path: Path) -> None:
        """Badges under the title, and a first cell that is one call into the package, wherever it runs."""
        notebook = nbformat.read(path, as_version=4)
        stored = nbformat.writes(notebook)
        address.write_into(notebook, path.name)
        assert nbformat.writes(notebook) == stored, "run `python -m workshop.make.address`"

    def test_says_how_long_it_takes(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        stored = nbformat.writes(notebook)
        lengths.write_into(notebook, lengths.length_of(path))
        assert nbformat.writes(notebook) == stored, "run `python -m workshop.make.lengths`"

    def test_its_sections_are_numbered_without_a_gap(self, path: Path) -> None:
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        numbers = re.findall(r"^## (\d+) · ", prose, re.M)
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)] != []

    def test_has_readable_metadata(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        assert "widgets" not in notebook.metadata, "widget state: run `make notebooks`, which strips it"
        assert all("execution" not in cell.metadata for cell in notebook.cells), (
            "time stamps: run `make notebooks`"
        )

    def test_silences_no_result_with_a_semicolon(self, path: Path) -> None:
        ending = [cell.source for cell in code_cells(path) if cell.source.rstrip().endswith(";")]
        assert not ending, (
            "nbval runs cells without a history, where a last `;` does nothing: write `_ = ...`"
        )


def test_readme_says_how_long_the_course_takes() -> None:
    text = lengths.README.read_text("utf-8")
    assert lengths.readme(text) == text, "run `python -m workshop.make.lengths`"


def test_words_that_are_read_are_counted() -> None:
    folded = "<details>nor these</details> 12 | x"
    text = f"Two words — and [a link](http://x.y/z w).\n\n```\nnot these\n```\n{folded}"
    assert lengths.words_of(text) == 6


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "10 seconds"), (31, "40 seconds"), (110, "110 seconds"), (121, "2.5 minutes")]
)
def test_seconds_are_rounded_up(seconds: float, said: str) -> None:
    assert lengths.rounded(seconds) == said
