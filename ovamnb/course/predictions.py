"""First the reader's guess, then the answer, then the score."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from numbers import Real
from typing import Any

from ..plumbing import checks
from . import progress
from .comparing import same
from .syllabus import load

Expects = type | Sequence | Mapping[str, Any]
"""What a prediction may be: `float`, `int`, a sequence of choices, or a mapping of names to such."""
PEN, YES, NO = "✎", "✓", "✗"


class Answer:
    """What a prediction is held against: see `predict`."""

    def __init__(self) -> None:
        self.truth: Any = None
        self.within: float | Mapping[str, float] = 0.0
        self.given = False

    def __call__(self, truth: Any, *, within: float | Mapping[str, float] = 0.0) -> None:
        """Say what is true; numbers count as predicted within ± `within` (for a mapping: one for all, or one
        each)."""
        self.truth, self.within, self.given = truth, within, True

    @staticmethod
    def show(figure: Any) -> None:
        """Display a figure as a part of the answer: in a `with` block, a last line is not shown by itself."""
        from IPython.display import display

        display(figure)


@contextmanager
def predict(name: str, said: Any, expects: Expects) -> Iterator[Answer]:
    """Hold the reader's prediction against what comes out in the block.

        my_prediction = None  # "start" or "end"

        with ov.predict("03.2", my_prediction, ("start", "end")) as answer:
            ...                                     # measure, print
            answer.show(ov.contact_sheet(image, heats))
            answer("start")

    While `said` is None (or a mapping has a None in it), the cell asks for a prediction, and all that the
    block prints and shows is folded away; the block runs in any case, since later cells need its variables.
    With a prediction, everything is shown, and then whether it came as predicted. The first prediction
    counts: it is kept (`ov.progress`).

    `name`: the chapter and the number of the prediction in it. `expects`: the choices, `float` or `int`, or a
    mapping of names to these. `answer(truth, within=0.1)`: a number is right within ± 0.1.

    Raises KeyError for a name that the chapter does not have, ValueError or TypeError for a prediction of
    another kind than `expects`, before the block runs; RuntimeError where the block gives no answer.
    """
    title = _title(name)
    _require_expects(expects)
    _require_kind(name, said, expects)
    answer = Answer()
    before = _open_figures()
    if _complete(said):
        yield answer
        _require_answer(name, answer)
        _show_figures(before)
        _score(name, said, answer)
        return

    from IPython.utils.capture import capture_output

    try:
        with capture_output() as folded:
            yield answer
            _show_figures(before)
    except BaseException:
        print(folded.stdout, end="")  # what came before the failure helps to find it
        raise
    _require_answer(name, answer)
    _ask(title, said, expects, folded)


def _title(name: str) -> str:
    module = load(str(name)[:2])
    if name not in module.PREDICTIONS:
        raise KeyError(f"There is no prediction {name!r}: the chapter has {', '.join(module.PREDICTIONS)}.")
    return module.PREDICTIONS[name]


def _complete(said: Any) -> bool:
    return (
        all(value is not None for value in said.values()) if isinstance(said, Mapping) else said is not None
    )


def _require_kind(name: str, said: Any, expects: Expects) -> None:
    """ValueError for a prediction that is not of the kind that was asked for; None is none yet."""
    if isinstance(expects, Mapping):
        if said is not None and (not isinstance(said, Mapping) or said.keys() != expects.keys()):
            raise ValueError(f"Prediction {name} has an entry for each of: {', '.join(map(str, expects))}.")
        for key in expects if said else ():
            _require_kind(f"{name}, {key!r},", said[key], expects[key])
    elif said is not None and isinstance(expects, type):
        checks.number(f"Prediction {name}", said)
    elif said is not None and not (isinstance(said, str | Real) and said in expects):
        raise ValueError(f"Prediction {name} is one of {_choices(expects)}, not {checks.shown(said)}.")


def _require_expects(expects: Expects) -> None:
    """TypeError for what cannot be said of a prediction; ValueError for no choices."""
    if isinstance(expects, Mapping):
        if not expects:
            raise ValueError("A prediction of several things expects one at least.")
        for kind in expects.values():
            if isinstance(kind, Mapping):
                raise TypeError("A prediction expects float, int or choices for each of its things.")
            _require_expects(kind)
    elif isinstance(expects, list | tuple):
        if not expects or not all(isinstance(choice, str | Real) for choice in expects):
            raise ValueError("The choices of a prediction are words or numbers, one at least.")
    elif not (expects is float or expects is int):
        kind = checks.shown(expects)
        raise TypeError(f"A prediction expects float, int, choices or a mapping to these, not {kind}.")


def _require_answer(name: str, answer: Answer) -> None:
    if not answer.given:
        raise RuntimeError(f"The block of prediction {name} ended without an answer: call answer(…) in it.")


def _choices(expects: Expects) -> str:
    if isinstance(expects, Mapping):
        kinds = {key: _choices(value) for key, value in expects.items()}
        if len(kinds) > 1 and len(set(kinds.values())) == 1:
            return f"for each of {', '.join(map(str, kinds))}: {kinds.popitem()[1]}"
        return "; ".join(f"{key}: {kind}" for key, kind in kinds.items())
    return "a number" if isinstance(expects, type) else ", ".join(map(repr, expects))


def _score(name: str, said: Any, answer: Answer) -> None:
    """Print whether it came as predicted, and keep the first try."""
    if isinstance(said, Mapping):
        parts = [(f"{key}: ", said[key], answer.truth[key], key) for key in said]
    else:
        parts = [("", said, answer.truth, None)]
    hits = 0
    for label, mine, truth, key in parts:
        within = answer.within.get(key, 0.0) if isinstance(answer.within, Mapping) else answer.within
        right = same(mine, truth, 0.0) or (isinstance(truth, Real) and abs(mine - truth) <= within)
        hits += right
        print(f"{YES if right else NO} {label}you said {_short(mine)}, it is {_short(truth)}")
    if len(parts) > 1:
        print(f"{hits} of {len(parts)} as predicted")
    if name not in progress.read()["predictions"]:
        kept = dict(said) if isinstance(said, Mapping) else said
        progress.keep("predictions", name, {"said": kept, "right": hits == len(parts)})


def _short(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _ask(title: str, said: Any, expects: Expects, folded: Any) -> None:
    """Ask for a prediction, with the answer folded away beneath."""
    missing = [str(key) for key, value in said.items() if value is None] if isinstance(said, Mapping) else []
    which = f" (still None: {', '.join(missing)})" if missing else ""
    text = f"{PEN} Write your prediction first{which}, then run both cells again. To predict: {title}."
    text += f"\n  It can be: {_choices(expects)}."
    inside = f"<pre>{escape(folded.stdout)}</pre>" if folded.stdout else ""
    for output in folded.outputs:
        data = output.data
        if "image/png" in data:
            png = data["image/png"]
            png = png if isinstance(png, str) else base64.b64encode(png).decode()
            inside += f'<img alt="a figure" src="data:image/png;base64,{png.strip()}">'
        else:
            inside += data.get("text/html") or f"<pre>{escape(data.get('text/plain', ''))}</pre>"
    question = "<br>".join(map(escape, text.splitlines()))
    answer = f"<details><summary>Only reading? The answer</summary>{inside}</details>"
    html = f"<p>{question}</p>{answer}"
    publish({"text/plain": text, "text/html": html})
    if folded.stderr:
        print(folded.stderr, file=sys.stderr, end="")


def publish(data: dict[str, str]) -> None:
    """Display something in a notebook; elsewhere print its text, since IPython would start a shell there and
    take over the display hook of the whole process."""
    from IPython.core.interactiveshell import InteractiveShell

    if InteractiveShell.initialized():
        from IPython.display import publish_display_data

        publish_display_data(data)
    else:
        print(data["text/plain"])


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot else set()


def _show_figures(before: set[int]) -> None:
    """Show the figures that the block left open, which Jupyter would show only after the cell, unfolded."""
    for number in sorted(_open_figures() - before):
        pyplot = sys.modules["matplotlib.pyplot"]
        Answer.show(pyplot.figure(number))
        pyplot.close(number)
