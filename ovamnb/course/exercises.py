"""Is it right, and if not, which idea is wrong?"""

from __future__ import annotations

import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from . import progress
from .comparing import same, shape_of
from .syllabus import load

MINUTES = {1: "about five minutes", 2: "about a quarter of an hour", 3: "open: half an hour or more"}
SEED = 7


@dataclass(frozen=True)
class Verdict:
    """What a check says; `right` is None where there is nothing to check yet."""

    right: bool | None
    text: str

    def __str__(self) -> str:
        return f"{ {True: '✓', False: '✗', None: '…'}[self.right] } {self.text}"


@dataclass(frozen=True)
class Exercise:
    """A function that the reader writes, compared with the right one on several inputs.

    `name` "03.a", `title`, `stars` 1 to 3; `cases(generator)` gives the arguments of several calls, whose
    right answers differ, so that no constant passes; `right` is the function asked for; `ideas` maps the
    sentence about a wrong idea to the function that has it; `says`: what a right answer has shown;
    `otherwise`: what to try where no known idea fits. `close`: tolerance, absolute and relative. Where it
    counts what a function does and not what it gives back, `watch(function, *case)` says that, None for one
    that does nothing yet.
    """

    name: str
    title: str
    stars: int
    cases: Callable[[torch.Generator], Sequence[tuple]]
    right: Callable
    ideas: Mapping[str, Callable] = field(default_factory=dict)
    says: str = ""
    otherwise: str = "Try it on the small example above, by hand."
    close: float = 1e-4
    watch: Callable | None = None

    def seen(self, function: Callable, cases: Sequence[tuple]) -> list:
        """What is compared of a function, case by case: what it gives back, or what `watch` says of it."""
        return [self.watch(function, *case) if self.watch else function(*case) for case in cases]

    def verdict(self, answer: Callable, **given: Any) -> Verdict:
        """Which of the known ideas an answer follows. `given` is not needed here."""
        if answer is None or answer is Ellipsis:
            return Verdict(None, "Not written yet.")
        if not callable(answer):
            return Verdict(False, "Hand over the function itself, without calling it.")
        cases = self.cases(torch.Generator().manual_seed(SEED))
        mine = self.seen(answer, cases)
        if any(value is None or value is Ellipsis for value in mine):
            return Verdict(None, "Not written yet: the function gives nothing back.")
        expected = self.seen(self.right, cases)
        if self._same(mine, expected):
            return Verdict(True, f"Right. {self.says}".rstrip())
        for idea, wrong in self.ideas.items():
            if self._same(mine, self.seen(wrong, cases)):
                return Verdict(False, idea)
        if shape_of(mine[0]) != shape_of(expected[0]):
            return Verdict(False, f"The shape should be {_kind(expected[0])}, not {_kind(mine[0])}.")
        return Verdict(False, f"Not right yet. {self.otherwise}")

    def _same(self, mine: Sequence, right: Sequence) -> bool:
        return all(same(one, other, self.close) for one, other in zip(mine, right, strict=True))


@dataclass(frozen=True)
class Open:
    """An exercise with many right answers: `judge(answer, **given)` measures one → (reached, sentence).
    `given` is what the notebook hands over, such as a recording."""

    name: str
    title: str
    judge: Callable[..., tuple[bool, str]]
    stars: int = 3

    def verdict(self, answer: Any, **given: Any) -> Verdict:
        """What the judge says of an answer; None and ... are none yet."""
        if answer is None or answer is Ellipsis:
            return Verdict(None, "Nothing to check yet.")
        reached, sentence = self.judge(answer, **given)
        return Verdict(bool(reached), sentence)


def check(name: str, answer: Any, **given: Any) -> None:
    """Check the answer to an exercise, and name the idea behind a known mistake.

        def my_map(query, key): ...

        ov.check("02.a", my_map)

    `name`: the chapter and the exercise's letter; `answer`: what the exercise asks for; `given`: what its
    check needs from the notebook, as the exercise's cell has it. What is solved is kept (`ov.progress`).

    Raises KeyError for a name that the chapter does not have.
    """
    exercise = _exercise(name)
    verdict = verdict_of(exercise, answer, **given)
    print(verdict)
    if verdict.right is None:
        print(f"  {'★' * exercise.stars} {exercise.title}: {MINUTES[exercise.stars]}")
        return
    kept = progress.read()["exercises"].get(name, {})
    solved = bool(verdict.right or kept.get("right"))
    progress.keep("exercises", name, {"right": solved, "tries": kept.get("tries", 0) + 1})


def verdict_of(exercise: Exercise | Open, answer: Any, **given: Any) -> Verdict:
    """The verdict on an answer; an error in the reader's own function becomes one, with the line."""
    try:
        return exercise.verdict(answer, **given)
    except NotImplementedError:
        return Verdict(None, "Not written yet.")
    except Exception as error:
        line = _line_of(error, answer)
        if line is None:  # not the reader's mistake
            raise
        return Verdict(False, f"Your function stopped with {type(error).__name__}: {error}\n  {line}")


def _exercise(name: str) -> Exercise | Open:
    exercises = {exercise.name: exercise for exercise in load(str(name)[:2]).EXERCISES}
    if name not in exercises:
        raise KeyError(f"There is no exercise {name!r}: the chapter has {', '.join(exercises)}.")
    return exercises[name]


def _line_of(error: Exception, answer: Any) -> str | None:
    """The line of the reader's function at which an error came up; None where it came from elsewhere."""
    try:
        own = inspect.unwrap(answer).__code__.co_filename
    except AttributeError:
        return None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if not frames:  # called with the wrong arguments, it has no frame of its own
        return "its arguments are not those of the exercise" if isinstance(error, TypeError) else None
    frame = frames[-1]
    return f"in `{frame.name}`: {linecache.getline(frame.filename, frame.lineno).strip()}"


def _kind(value: Any) -> str:
    shape = shape_of(value)
    return type(value).__name__ if shape is None else str(shape)
