"""Files: written whole or not at all, and a sentence where they cannot be written or read."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def as_path(path: str | Path) -> Path:
    """A path from a string or a path; TypeError for anything else, ValueError for what can name no file."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"A file is named by a string or a Path, not by {type(path).__name__}.")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{text!r} names no file: give its path as a string.")
    return Path(text)


def existing(path: str | Path, what: str) -> Path:
    """The path of a file that can be opened, `what` in words; FileNotFoundError where there is none, and
    OSError where it may not be read."""
    path = as_path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
        folder = ", which is a folder" if os.path.isdir(path) else ""
        raise FileNotFoundError(f"There is no {what} at '{path}'{folder}.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise _said(error, f"'{path}' cannot be read: {_reason(error)}.") from None
    return path


@contextmanager
def whole(path: str | Path, *, make_folder: bool = False) -> Iterator[Path]:
    """A path to write a file to, which gets its own name only when it is whole.

        with whole("cat.png") as partial:
            image.save(partial, format="png")

    The partial file lies in the same folder and is removed whatever happens, unless the process is killed.
    The file has the mode of the one that it replaces, or what the umask leaves. A link is followed.

    Raises FileNotFoundError where there is no folder (and `make_folder` is not set), ValueError for a target
    that is there and no regular file, and OSError, in a sentence, where the disk does not take the file.
    """
    path = as_path(path)
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not os.path.isfile(target):
        kind = "a folder" if os.path.isdir(target) else "no regular file"
        raise ValueError(f"'{path}' is {kind}: give the name of a file to write.")
    name = target.name if len(os.fsencode(target.name)) < 230 else target.name[:50]  # a name has 255 bytes
    partial = target.with_name(f"{name}.{os.getpid()}.partial")
    try:
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        elif not os.path.isdir(target.parent):
            raise FileNotFoundError(
                f"There is no folder '{path.parent}' to save '{path.name}' in: make it first."
            )
        mode = _reserve(partial, target)
        yield partial
        os.chmod(partial, mode)  # a library may have put a file with another mode in its place
        partial.replace(target)
    except OSError as error:
        if error.errno is None:  # it has its sentence already, or is the writer's own
            raise
        raise _said(error, _unwritten(path, _reason(error))) from None
    except Exception as error:
        if (reason := _disk_error(error)) is None:
            raise
        raise OSError(_unwritten(path, reason)) from None
    finally:
        with suppress(OSError):  # the folder is gone or read-only: then there is nothing to remove
            partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, make_folder: bool = False) -> None:
    """A text file in UTF-8, whole or not at all: see `whole`."""
    with whole(path, make_folder=make_folder) as partial:
        partial.write_text(text, encoding="utf-8")


def clear_partials(root: Path, older: float = 0.0) -> None:
    """Remove what a killed process left half written below a folder, `older` than so many seconds; no running
    process may take longer to write a file."""
    for path in root.rglob("*.partial"):
        if re.search(r"\.\d+\.partial$", path.name) and time.time() - path.stat().st_mtime >= older:
            path.unlink(missing_ok=True)


def _reserve(partial: Path, target: Path) -> int:
    """Make the partial file, and say which mode the file shall have."""
    partial.unlink(missing_ok=True)  # of a killed process with the same number
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return stat.S_IMODE((target if target.exists() else partial).stat().st_mode)


def _disk_error(error: Exception) -> str | None:
    """The system's reason in an error of safetensors, which has a class of its own and Rust's words."""
    text = str(error)
    if type(error).__name__ == "SafetensorError" and "os error" in text:
        return text.split("I/O error:")[-1].split("IoError:")[-1].split("(os error")[0].strip() or text
    return None


def _unwritten(path: Path, reason: str) -> str:
    return f"'{path}' could not be written ({reason}): make room there, or save it elsewhere."


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).rstrip(".")


def _said(error: OSError, sentence: str) -> OSError:
    """An error of the same class and number whose whole message is the sentence."""
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    problem = kind(sentence)
    problem.errno = error.errno
    return problem
