"""Class names in English sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence


def with_article(noun: str) -> str:
    """ "a cat", "an elephant": by the first letter, which is right for nearly all class names."""
    return ("an " if noun[:1].lower() in tuple("aeiou") else "a ") + noun


def listed(names: Sequence[str]) -> str:
    """ "a cat, a car and a tree"; "something" where there is no name."""
    if not names:
        return "something"
    *head, last = map(with_article, names)
    return f"{', '.join(head)} and {last}" if head else last


def mentions(text: str, name: str) -> bool:
    """Whether a name stands in a text, as whole words in any case."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
