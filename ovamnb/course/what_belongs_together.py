"""Chapter 04: its predictions, its exercises, its drawing."""

from __future__ import annotations

from .exercises import Exercise, Open

TITLE = "What belongs together"
PREDICTIONS: dict[str, str] = {}
EXERCISES: tuple[Exercise | Open, ...] = ()
