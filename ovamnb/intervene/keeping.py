"""Another prompt in the layout of a first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher

import torch
from torch import Tensor

from ..plumbing import checks
from ..select import Blocks
from .passes import Passes
from .wording import encoder_of


def twins(seed: int, count: int = 2) -> list[torch.Generator]:
    """Generators that give each of `count` pictures the same first noise, whatever the device."""
    return [torch.Generator().manual_seed(checks.seed(seed)) for _ in range(checks.whole("count", count, 1))]


def pairs(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """Which tokens of two prompts belong together: (its number in the source, in the target), by their names.

        pairs(["a", "cat", "on"], ["a", "dog", "on"])             # (0, 0), (1, 1), (2, 2)
        pairs(["a", "cat", "on"], ["a", "red", "cat", "on"])      # (0, 0), (1, 2), (2, 3)

    As many tokens on both sides: a word is in the place of another. Else what both have, in order.
    """
    if len(source) == len(target):
        return [(i, i) for i in range(len(source))]
    blocks = SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks()
    return [(block.a + i, block.b + i) for block in blocks for i in range(block.size)]


@contextmanager
def keep_layout(
    pipe,
    source: str,
    target: str | Sequence[str],
    *,
    cross: float = 0.8,
    self_attention: float = 0.4,
    blocks: Blocks | None = None,
    guidance: bool | None = None,
) -> Iterator[None]:
    """Draw other prompts where a first one put things (Prompt-to-Prompt, Hertz et al. 2022, arXiv
    2208.01626).

        source, target = "a cat on grass", "a dog on grass"
        with intervene.keep_layout(pipe, source, target):
            first, second = pipe([source, target], generator=intervene.twins(7)).images

    All are drawn in one batch, the source first, from the same noise. In the first part `cross` of the steps,
    a target's queries and keys to the text are the source's, so that its attention maps are, and the values,
    which say what to draw, its own; in the first part `self_attention`, also queries and keys among places.
    0.8 and 0.4 are the paper's. More of either keeps more. Where the prompts have different numbers of
    tokens, keys are taken for what both have, and a word that is new has its own; Prompt-to-Prompt copies
    those columns of the map.

    `blocks`: as for `silence`; `guidance`: only for a loop written by hand. Only the conditional half
    changes.

    Raises ValueError for parts beyond 0 to 1; in the first pass for other prompts than these, and for
    pictures that start from different noise.
    """
    parts = {
        "cross": checks.number("cross", cross, 0, 1, why="is a part of the steps"),
        "self": checks.number("self_attention", self_attention, 0, 1, why="is a part of the steps"),
    }
    prompts = [source, *([target] if isinstance(target, str) else checks.entries("target", target, "texts"))]
    if len(prompts) == 1:
        raise ValueError("There is no other prompt to draw: give at least one target.")
    encoder = encoder_of(pipe)
    names = [encoder.read(checks.instance("a prompt", text, str, "a text")).tokens for text in prompts]
    now = Passes(pipe, blocks=blocks, guidance=guidance)

    def begun() -> None:
        count = now.generation.size[0]
        if count != len(prompts):
            raise ValueError(
                f"A layout is kept in one batch of all {len(prompts)} prompts, the source first, and this "
                f"one has {count} picture(s): draw pipe([source, target])."
            )
        for image, text in enumerate(prompts):
            now.require_prompt(text, [image])
        first, *others = now.sample[now.generation.parts["conditional"]]
        if not all(torch.equal(first, other) for other in others):
            raise ValueError(
                "The pictures start from different noise: give the pipeline "
                f"generator=intervene.twins(seed{f', {count}' if count > 2 else ''})."
            )

    def taken(part: str, keys: bool):
        def change(rows: list[int], output: Tensor) -> Tensor:
            if now.generation.passes >= round(parts[part] * now.expected()):
                return output
            output = output.clone()
            for row, words in zip(rows[1:], names[1:], strict=True):
                if keys and part == "cross":
                    here, there = zip(*through(names[0], words, output.shape[1]), strict=True)
                    output[row, list(there)] = output[rows[0], list(here)]
                else:
                    output[row] = output[rows[0]]
            return output

        return change

    now.begun.append(begun)
    for part, layers in (("cross", now.cross), ("self", now.self_)):
        for name, attn in layers.items():
            now.on_output(attn.to_q, taken(part, False), name)
            now.on_output(attn.to_k, taken(part, True), name)
    with now.attached():
        yield


def through(source: Sequence[str], target: Sequence[str], length: int) -> list[tuple[int, int]]:
    """The pairs of two prompts, and those of the padding behind both, up to `length` tokens."""
    first, second = len(source), len(target)
    padding = range(max(0, length - max(first, second)))
    return [*pairs(source, target), *((first + i, second + i) for i in padding)]
