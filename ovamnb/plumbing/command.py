"""How a command of this package ends: in a table, or in one line that says what was wrong and what to do.

    @ends("python -m ovamnb.evaluation")          # foreseen errors: exit code 1; Ctrl-C: 130
    def main(arguments=None):
        ...
        with ends(parser.prog, WRONG):          # errors in its arguments: exit code 2
            splits = both_splits(given)

The package's own errors are sentences with a remedy already, so they lose their traceback; those of the
system get a remedy here. Errors that nobody foresaw (a TypeError, say) keep their traceback, to be reported.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FAILED, WRONG, STOPPED = 1, 2, 130
GOES_ON = "What was done is kept, and the same command goes on from there."
BEGINS_ANEW = "the same command begins anew."
FORESEEN = (ValueError, OSError, ImportError, RuntimeError, MemoryError)
"""RuntimeError: PyTorch raises it for memory and devices."""
MISTAKES_OF_OURS = (RecursionError, NotImplementedError)
"""These are RuntimeErrors, too."""
TRACEBACK = "OVAMNB_TRACEBACK"
"""Set in the environment, this variable brings tracebacks back, for debugging."""


@contextmanager
def ends(prog: str, code: int = FAILED, again: str = GOES_ON) -> Iterator[None]:
    """Around a command, or as its decorator: errors that were foreseen end it in one line on stderr, with
    this exit `code`. `again`: what the same command does after an interruption."""
    try:
        yield
    except KeyboardInterrupt as error:
        caught, code = error, STOPPED
    except FORESEEN as error:
        if isinstance(error, MISTAKES_OF_OURS) or os.environ.get(TRACEBACK):
            raise
        caught = error
    else:
        return
    traceback.clear_frames(caught.__traceback__)  # ends progress bars, which would stand before the line
    sentence = f"Stopped. {again[:1].upper()}{again[1:]}" if code == STOPPED else said(caught)
    print(f"{prog}: {sentence}", file=sys.stderr)
    raise SystemExit(code) from None


def said(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.errno in REMEDIES and error.filename is not None:
        return REMEDIES[error.errno].format(path=error.filename, why=error.strerror)
    if isinstance(error, MemoryError):
        return one_line(f"Not enough memory: take fewer or smaller pictures, or another device. {error}")
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return one_line(error.strerror)
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    return " ".join(text.split())


FULL = "'{path}' cannot be written, since the disk is full: make room, or write elsewhere."
CLOSED = "'{path}' must not be read or written here ({why}): give another place, or the rights to it."
NO_FOLDER = "'{path}' is a file, or below one, where a folder is needed: give another place."
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EACCES: CLOSED,
    errno.EPERM: CLOSED,
    errno.EROFS: CLOSED,
    errno.ENOTDIR: NO_FOLDER,
    errno.EEXIST: NO_FOLDER,
    errno.EISDIR: "'{path}' is a folder where a file is needed: give another place.",
    errno.ENOENT: "'{path}' is not there: give another place, or make it first.",
}
"""Errors of the system, for which Python has a word but no remedy."""


def positive(text: str) -> int:
    """A whole number from 1 on, as an option's `type`; argparse puts the option before the error."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"give a whole number from 1 on, not '{text}'.")
    return int(text)


def require_writable(folder: Path) -> None:
    """OSError where a folder of results cannot be made or written to: better now than after hours."""
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
            return


def require_given(*paths: Path | None) -> None:
    """FileNotFoundError for a path that was given and is not there, needed or not: who gives it means it."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
