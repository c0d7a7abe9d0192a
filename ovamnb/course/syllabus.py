"""The chapters in order, and where each keeps its predictions and exercises."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

CHAPTERS = {
    "00": "start_here",
    "01": "a_diffusion_model",
    "02": "attention_hooking",
    "03": "any_word",
    "04": "what_belongs_together",
    "05": "a_better_word",
    "06": "images_it_did_not_make",
    "07": "when_is_a_number_true",
    "08": "labels_out_of_words",
    "09": "attention_as_a_cause",
    "10": "where_it_goes_wrong",
}
"""Number → the name that a chapter's notebook and its module share."""


def load(number: str) -> ModuleType:
    """A chapter's module: PREDICTIONS (name → what is predicted), EXERCISES, and its drawing.

    Raises KeyError, naming the chapters, for a number that is none.
    """
    if number not in CHAPTERS:
        raise KeyError(f"There is no chapter {number!r}: they are {', '.join(CHAPTERS)}.")
    return import_module(f".{CHAPTERS[number]}", __package__)


def title_of(number: str) -> str:
    """A chapter's title, such as "Any word"."""
    return load(number).TITLE
