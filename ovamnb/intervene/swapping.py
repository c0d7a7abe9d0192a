"""A word that is found as one and drawn as another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from ..plumbing import checks
from ..select import Blocks
from .passes import Passes
from .wording import reworded


def replaced(states: Tensor, others: Tensor, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
    """Text states (batch, token, dim) with those of some tokens from `others` (token, dim)."""
    states, others = states.clone(), others.to(states)
    for row in rows:
        states[row, list(tokens)] = others[list(tokens)]
    return states


@contextmanager
def swap(
    pipe,
    prompt: str,
    words: Mapping[str, str],
    *,
    keys: bool = True,
    values: bool = True,
    context: bool = False,
    blocks: Blocks | None = None,
    steps: int | Iterable[int] | None = None,
    images: int | Iterable[int] | None = None,
    guidance: bool | None = None,
) -> Iterator[None]:
    """Let other words stand in for words of the prompt: in the keys, by which places find a word, in the
    values, which say what it adds there, or in both, which is another prompt.

        with intervene.swap(pipe, "a cat on grass", {"cat": "dog"}, keys=False):    # the values alone
            image = pipe("a cat on grass").images[0]

    K = W_K X and V = W_V X are made of the same text states X; here each gets its own. `context`: a text
    encoder writes into each token what stands before it, so that "on grass" after "dog" is not the same as
    after "cat"; True takes the states of all tokens from the other prompt, False those of the words alone.
    The bundled model's words have no context. A recording made meanwhile answers for the text that it is
    asked: where "cat" was found by a dog's keys, `trace.maps` of the other prompt says where that was.
    `blocks`, `steps`, `images`, `guidance`: as for `silence`.

    Raises KeyError for a word that is not in the prompt, ValueError for one of another number of tokens, and
    for neither keys nor values; in the first pass as `reweight` does.
    """
    if not (checks.flag("keys", keys) | checks.flag("values", values)):
        raise ValueError("Neither keys nor values are to be swapped: leave one of them True.")
    text, other, tokens = reworded(pipe, prompt, words)
    if checks.flag("context", context):
        tokens = range(len(text.states))
    now = Passes(pipe, blocks=blocks, steps=steps, images=images, guidance=guidance)
    now.begun.append(lambda: now.require_prompt(prompt))
    for name, attn in now.cross.items():
        for module, wanted in ((attn.to_k, keys), (attn.to_v, values)):
            if wanted:
                now.on_input(module, lambda rows, x: replaced(x, other.states, tokens, rows), name)
    with now.attached():
        yield
