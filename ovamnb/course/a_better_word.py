"""Chapter 05: its predictions, its exercises, its drawing."""

from __future__ import annotations

from .exercises import Exercise, Open

TITLE = "A better word"
PREDICTIONS: dict[str, str] = {}
EXERCISES: tuple[Exercise | Open, ...] = ()
