"""Chapter 02: its predictions, its exercises, its drawing."""

from __future__ import annotations

from .exercises import Exercise, Open

TITLE = "Where attention lives"
PREDICTIONS: dict[str, str] = {}
EXERCISES: tuple[Exercise | Open, ...] = ()
