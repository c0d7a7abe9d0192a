"""Class names in English sentences."""

from __future__ import annotations

import re


def with_article(noun: str) -> str:
    """ "a cat", "an elephant": by the first letter, which is right for nearly all class names."""
    return ("an " if noun[:1].lower() in tuple("aeiou") else "a ") + noun


def mentions(text: str, name: str) -> bool:
    """Whether a name stands in a text, as whole words in any case."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
