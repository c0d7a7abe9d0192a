"""Class names in English sentences, and what in a text is punctuation."""

from __future__ import annotations

import re
import unicodedata
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


def without_punctuation(word: str) -> str:
    """A word without the punctuation around it, ASCII's symbols included: "(cat)," → "cat"."""
    while word and is_punctuation(word[0]):
        word = word[1:]
    while word and is_punctuation(word[-1]):
        word = word[:-1]
    return word


def is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" or character in "$+<=>^`|~"


def does_no_harm(character: str) -> bool:
    """Whether a character may be unknown: a comma does no harm, but an emoji or another symbol says
    something, and all of them would be the same unknown token."""
    return unicodedata.category(character)[0] in "PZ"
