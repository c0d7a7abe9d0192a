"""Errors of folder, disk and memory, found before anything is generated, or explained."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..evaluation.store import write_settings
from .folder import read_record
from .prompts import Plan


def claim(folder: Path, settings: dict, plans: Sequence[Plan]) -> None:
    """Reserve the folder for this run; ValueError where it holds another run's pictures, or other files."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is a file: give a folder.")
    # A run that was killed as it began may have left half of its settings, and nothing else.
    if (
        folder.exists()
        and not (folder / "settings.json").exists()
        and not all(path.match("settings.json.*.partial") for path in folder.iterdir())
    ):
        raise ValueError(f"'{folder}' holds files that are no synthetic set: give an empty or a new folder.")
    write_settings(folder, settings)
    for plan in plans:
        there = read_record(folder, plan.name)
        if there and told(**there) != (wanted := told(plan.prompt, plan.seed, plan.classes)):
            raise ValueError(
                f"'{folder}' holds another run's pictures: '{plan.name}' was drawn from {told(**there)}, not "
                f"from {wanted}. Give another folder, or the prompts and the seed of that run."
            )


def told(prompt: str, seed: int, classes: Sequence[str], **_) -> str:
    """A picture's prompt, seed and classes, in words."""
    return f"'{prompt}' and seed {seed} for {', '.join(classes)}"


def require_disk(folder: Path, count: int, pixels: tuple[int, int], maps: int = 1) -> None:
    """OSError unless the disk has room for `count` more pictures of `pixels` (h, w), each with `maps` label
    maps, at their largest."""
    needed = count * ((3 + maps) * pixels[0] * pixels[1] + 2**13)  # three colours, labels; names, the record
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{count} pictures need up to {needed / 2**20:.0f} MiB, and the disk of '{folder}' has "
            f"{free / 2**20:.0f} MiB left: make room, give a folder elsewhere, or ask for fewer",
        )


@contextmanager
def explained(batch: int, folder: Path) -> Iterator[None]:
    """Errors that any batch can meet are raised with what to do about them; what was written is kept."""
    kept = "what was drawn is kept, and the same command goes on from there"
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(errno.ENOSPC, f"the disk of '{folder}' is full: make room; {kept}") from error
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's has no name of its own
        if "memory" not in str(error):
            raise
        fewer = f"--batch {batch // 2}" if batch > 1 else "a smaller picture or a larger device"
        raise RuntimeError(f"Not enough memory for {batch} pictures at once: try {fewer}; {kept}.") from error
