"""Write requirements.lock: the exact versions that pyproject.toml and all its extras resolve to today.

    python -m workshop.make.lock torch==2.13.0

Each argument is a further requirement, for what shall be held at a version. pip's own resolver is used,
because it is pip that will read the file: same configuration (mirrors, CPU builds), and no other tool.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = """\
# Every version that `make` installs, torch's CUDA libraries apart (pip adds those where torch wants them).
# Made by `make lock` from pyproject.toml; not edited by hand. Tried on Python 3.11, 3.12 and 3.13.
"""


def wanted() -> list[str]:
    """The requirement strings of pyproject.toml: build backend, package and extras, save those of the dense
    CRF, which not every machine can build."""
    text = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = text["project"]
    groups = project["optional-dependencies"]
    extras = [line for name in groups if name != "crf" for line in groups[name]]
    return text["build-system"]["requires"] + project["dependencies"] + extras


def resolve(requirements: list[str]) -> dict[str, str]:
    """What pip would install for these into an empty environment: {name: version}."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        "-",
    ]
    report = subprocess.run([*pip, *requirements], check=True, text=True, stdout=subprocess.PIPE).stdout
    found = [item["metadata"] for item in json.loads(report)["install"]]
    # "2.13.0+cpu" is one build of 2.13.0: the lock names the release, the reader's index chooses the build
    return {item["name"].lower().replace("_", "-"): item["version"].split("+")[0] for item in found}


def main() -> None:
    """Resolve and write."""
    cuda = re.compile(r"nvidia-|cuda-|triton$")
    versions = {n: v for n, v in resolve(wanted() + sys.argv[1:]).items() if not cuda.match(n)}
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines))
    print(f"requirements.lock: {len(lines)} packages")


if __name__ == "__main__":
    main()
