"""Chapter 09: its predictions, its exercises, its drawing."""

from __future__ import annotations

from .exercises import Exercise, Open

TITLE = "Attention as a cause"
PREDICTIONS: dict[str, str] = {}
EXERCISES: tuple[Exercise | Open, ...] = ()
