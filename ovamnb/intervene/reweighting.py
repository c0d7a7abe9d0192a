"""A word that counts more, or less."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from ..plumbing import checks
from ..select import Blocks
from .passes import Passes
from .wording import places


def scaled(value: Tensor, tokens: Mapping[int, float], rows: Sequence[int]) -> Tensor:
    """V with the rows of some tokens times a number: `value` (batch, token, head·head_dim), {token: number}.

    Attention's output is A V = Σ_k A[:, k] V[k], so V[k] times c is the column A[:, k] times c, the others as
    they were: the reweighting of Prompt-to-Prompt (Hertz et al. 2022, arXiv 2208.01626, §3.2), exactly.
    """
    value = value.clone()
    for row in rows:
        for token, factor in tokens.items():
            value[row, token] *= factor
    return value


@contextmanager
def reweight(
    pipe,
    prompt: str,
    words: Mapping[str, float],
    *,
    blocks: Blocks | None = None,
    steps: int | Iterable[int] | None = None,
    images: int | Iterable[int] | None = None,
    guidance: bool | None = None,
) -> Iterator[None]:
    """Multiply the attention that words of the prompt get, after the softmax, by a number each.

        with intervene.reweight(pipe, "a cat on grass", {"cat": 2.0}):
            image = pipe("a cat on grass").images[0]

    1 changes nothing, 0 takes away what the word says, though not what it draws from the others in the
    softmax; below 0 is the opposite of what it says. `blocks`, `steps`, `images`, `guidance`: as for
    `silence`; only the conditional half reads the prompt. To draw with several numbers in one batch, nest one
    `with` for each image.

    Raises KeyError for a word that is not in the prompt; in the first pass ValueError where an image is drawn
    from another prompt, and as `silence` does.
    """
    checks.instance("words", words, Mapping, 'a dictionary such as {"cat": 2.0}')
    factors = {word: checks.number(f"the weight of '{word}'", factor) for word, factor in words.items()}
    if not factors:
        raise ValueError('There is no word to reweight: say which, such as {"cat": 2.0}.')
    found = places(pipe, prompt, factors)
    tokens = {token: factors[word] for word, where in found.items() for token in where}
    now = Passes(pipe, blocks=blocks, steps=steps, images=images, guidance=guidance)
    now.begun.append(lambda: now.require_prompt(prompt))
    for name, attn in now.cross.items():
        now.on_output(attn.to_v, lambda rows, value: scaled(value, tokens, rows), name)
    with now.attached():
        yield
