"""Where a prompt's words stand among its tokens, and the same prompt with another word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..plumbing import checks
from ..text import Text, TextEncoder


def encoder_of(pipe) -> TextEncoder:
    """A pipeline's text side; ValueError where it has none."""
    encoder = TextEncoder.of(pipe)
    if encoder is None:
        raise ValueError("This pipeline has no text encoder, so no word can be found in a prompt.")
    return encoder


def places(pipe, prompt: str, words: Iterable[str]) -> dict[str, list[int]]:
    """{word: the numbers of its tokens in the prompt}, wherever it occurs.

    Raises KeyError, naming the prompt's words, for one that is not there, and ValueError for a prompt that
    the tokenizer cannot read whole.
    """
    text = encoder_of(pipe).read(checks.instance("prompt", prompt, str, "one text"))
    found = {}
    for word in words:
        checks.instance("word", word, str, "a word of the prompt, or a phrase")
        found[word] = [token for place in text.find(word) for token in place]
    return found


def reworded(pipe, prompt: str, others: Mapping[str, str]) -> tuple[Text, Text, list[int]]:
    """The prompt, the same with other words, both encoded as the UNet reads them, padding included; and the
    numbers of the tokens that changed, which are the same ones in both.

        reworded(pipe, "a cat on grass", {"cat": "dog"})    # "a cat on grass", "a dog on grass", [2]

    Raises as `places`, and ValueError for a word of another number of tokens.
    """
    checks.instance("words", others, Mapping, 'a dictionary such as {"cat": "dog"}')
    if not others:
        raise ValueError('There is no word to change: say which, such as {"cat": "dog"}.')
    encoder = encoder_of(pipe)
    text = encoder.encode(checks.instance("prompt", prompt, str, "one text"), padded=True)
    changes = []
    for word, other in others.items():
        checks.instance("words", other, str, 'a dictionary such as {"cat": "dog"}')
        changes += [(tokens, word, other) for tokens in text.find(word)]
    source = text.source
    for tokens, _, other in sorted(changes, key=lambda change: -change[0][0]):  # from the end: spans hold
        start, stop = text.spans[tokens[0]][0], text.spans[tokens[-1]][1]
        source = source[:start] + other + source[stop:]
    changed = encoder.encode(source, padded=True)
    for word, other in others.items():
        ours, theirs = (len(encoder.read(one).tokens) - 2 for one in (word, other))
        if ours != theirs:
            raise ValueError(
                f"'{word}' has {ours} token(s) and '{other}' {theirs}, so one cannot stand in the other's "
                "place: choose words of as many."
            )
    return text, changed, sorted(token for tokens, *_ in changes for token in tokens)
