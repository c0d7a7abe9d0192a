"""Chapter 03: its predictions, its exercises, its drawing."""

from __future__ import annotations

from .exercises import Exercise, Open

TITLE = "Any word"
PREDICTIONS: dict[str, str] = {}
EXERCISES: tuple[Exercise | Open, ...] = ()
