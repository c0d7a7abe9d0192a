"""The house: who may import whom, no circles, no name twice; and README's map of it."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest
from setuptools import find_packages

from ovamnb.plumbing.moved import MOVED
from workshop.measure import chapters

ROOT = Path(__file__).parents[1]
ROOMS = (
    "ovamnb.plumbing",
    "ovamnb",  # the idea: the modules that lie flat in the package
    "ovamnb.intervene",
    "ovamnb.evidence",
    "ovamnb.plot",
    "ovamnb.emoji",
    "ovamnb.data",
    "ovamnb.evaluation",
    "ovamnb.synthesize",
    "ovamnb.downstream",
    "ovamnb.course",
    "workshop",
)
"""From the ground up: a room imports from itself and from those before it."""
FILES = sorted([*(ROOT / "ovamnb").rglob("*.py"), *(ROOT / "workshop").rglob("*.py")])


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def room(module: str) -> str:
    return max((r for r in ROOMS if f"{module}.".startswith(f"{r}.")), key=len)


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, wherever in it; not those that only annotations need."""
    found, here = set(), name_of(path)
    package = here if path.name == "__init__.py" else here.rpartition(".")[0]
    tree = ast.parse(path.read_text("utf-8"))
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys() - {here}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_run_down(path):
    mine = ROOMS.index(room(name_of(path)))
    up = {name for name in imports(path) if ROOMS.index(room(name)) > mine}
    assert not up, f"{name_of(path)} imports from rooms above it: {', '.join(sorted(up))}"


def test_there_are_no_circles():
    list(TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).static_order())


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=lambda path: path.stem)
def test_no_test_imports_the_pretend_device(path):
    """Every other test of the process would have it, too: `shared_fixtures.on_pretend_device` starts one."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "accelerator" not in named


def test_no_file_name_comes_twice():
    names = Counter(path.name for path in FILES if not path.name.startswith("__"))
    assert not {name: count for name, count in names.items() if count > 1}


class TestWhatMoved:
    def test_the_new_places_are_there(self):
        assert not [new for new in MOVED.values() if new not in MODULES]

    @pytest.mark.parametrize("old", MOVED)
    def test_the_old_names_say_where(self, old):
        with pytest.raises(ModuleNotFoundError, match=re.escape(f"`python -m {MOVED[old]}`")):
            importlib.import_module(old)

    def test_a_name_that_never_was_is_not_found(self):
        with pytest.raises(ModuleNotFoundError, match="No module named"):
            importlib.import_module("ovamnb.nonsense")

    @pytest.mark.slow
    def test_on_the_command_line(self):
        done = subprocess.run([sys.executable, "-m", "ovamnb.tour"], capture_output=True, text=True)
        assert done.returncode == 1 and "`python -m workshop.tour` in a checkout" in done.stderr
        assert done.stderr.count("\n") == 1


class TestReadme:
    README = (ROOT / "README.md").read_text("utf-8").split("## Where to find things")[1]

    def test_its_map_names_every_module_of_the_idea(self):
        table = self.README.split("| rooms,")[0]
        named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))
        flat = [name.removeprefix("ovamnb.") for name in MODULES if room(name) == "ovamnb" and "." in name]
        assert sorted(named) == sorted(flat)

    def test_its_map_names_every_room_in_order(self):
        rooms = re.findall(r"^\| `([\w/]+)/` \|", self.README, re.M)
        assert [name.replace("/", ".") for name in rooms] == list(ROOMS)


def test_the_idea_is_small():
    """4,000 lines were enough for a bare pipeline on a CPU; buffers for a GPU, models by name, what stands
    beside a pipeline, the way back to the noise and the paper's recipe to the letter took the rest of
    4,500; `Trace.words_at`, which asks a place for its words, took 163 more."""
    flat = [path for name, path in MODULES.items() if room(name) == "ovamnb"]
    assert sum(len(path.read_text("utf-8").splitlines()) for path in flat) <= 4650
    assert max(len(path.read_text("utf-8").splitlines()) for path in FILES) <= 320


def test_the_wheel_holds_no_workshop():
    find = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"][
        "find"
    ]
    packages = find_packages(ROOT, include=find["include"])
    assert {package.partition(".")[0] for package in packages} == {"ovamnb"}
    assert {package for package in packages if package.count(".") < 2} == {
        r for r in ROOMS if r != "workshop"
    }


@pytest.mark.parametrize("path", chapters.paths(), ids=lambda path: path.stem)
def test_no_chapter_imports_the_workshop(path):
    code = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
    assert not re.search(r"^\s*(from|import) workshop\b", code, re.M)


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "__init__.py"], ids=lambda path: name_of(path)
)
def test_a_room_lists_files_that_are_there(path):
    about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    listed = set(re.findall(r"^ *(\w+\.py) ", about, re.M)) - {"__main__.py"}
    files = {file.name for file in path.parent.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert not listed or listed == files
