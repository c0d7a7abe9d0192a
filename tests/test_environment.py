"""pyproject.toml, the lock, the conda environment and Binder tell one story."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
ALL = CORE + [Requirement(line) for extra in EXTRAS.values() for line in extra]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # where conda-forge calls it otherwise


def lock() -> dict[str, str]:
    """{name: version} of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("requirement", [r for r in ALL if str(r) not in EXTRAS["crf"]], ids=str)
def test_the_lock_fulfils_pyproject(requirement: Requirement) -> None:
    assert requirement.specifier.contains(lock()[requirement.name]), "run `make lock`"


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_pyproject_has_lower_bounds_only(requirement: Requirement) -> None:
    assert [bound.operator for bound in requirement.specifier] == [">="]


def test_the_lock_installs_anywhere() -> None:
    assert all(not Version(version).local for version in lock().values()), "a local build such as +cpu"
    assert not [name for name in lock() if name.startswith(("nvidia", "cuda", "triton"))]


def test_conda_asks_for_the_same() -> None:
    text = (ROOT / "environment.yml").read_text()
    conda = dict(re.findall(r"^  - ([\w-]+)>=([\d.]+)$", text, re.M))
    wanted = CORE + [Requirement(line) for line in EXTRAS["notebooks"]]
    bounds = {CONDA_NAMES.get(r.name, r.name): next(iter(r.specifier)).version for r in wanted}
    assert {name: conda.get(name) for name in bounds} == bounds
    assert conda.keys() - bounds.keys() == {"python", "setuptools"}
    assert f">={conda['python']}" == PROJECT["requires-python"]
    assert re.findall(r"channels:\n((?:  - .*\n)+)", text) == ["  - conda-forge\n  - nodefaults\n"]


def test_binder_takes_its_versions_from_the_lock() -> None:
    build = (ROOT / "binder" / "postBuild").read_text()
    assert "requirements.lock" in build and re.search(r"^set -e", build, re.M)
    assert re.search(r"pip install --no-cache-dir .* -c \S+ .*\.$", build, re.M)
    python = (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)


def test_the_workflows_are_sound() -> None:
    """Syntax, expressions, versions of actions that GitHub has retired."""
    beside = str(Path(sys.executable).parent)  # pip puts the program there, and no PATH need lead to it
    program = shutil.which("actionlint", path=beside) or shutil.which("actionlint")
    if program is None:
        pytest.skip("no actionlint: the extra `test` brings it")
    done = subprocess.run([program, "-no-color"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
