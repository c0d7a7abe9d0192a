"""Maps of two other methods, DAAM and Attn2Mask, from the same recordings. Both take a `Token`, too."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .refine import minmax
from .select import as_steps, show_steps
from .tokens import Token, put_in
from .trace import Trace


def daam(trace: Trace, prompt: str, word: str | Token, *, image: int = 0, **choices) -> Tensor:
    """The map of a word of the prompt, (h, w): mean attention over heads and layers, summed over steps.

        heat = daam(trace, "a cat on grass", "cat")
        heat = daam(trace, "a cat on grass", cat_token)      # a token in place of its word

    As in Tang et al. (ACL 2023, arXiv 2210.04885): the softmax runs over all tokens of the padded prompt;
    queries are the conditional ones of the down and up blocks; layers are resized by bicubic interpolation,
    and negative values set to 0; a word of several sub-tokens has the mean of their maps. The mask is where
    the map exceeds 0.4 of its maximum.

    A `Token` takes the place of its word in the prompt (see `ovamnb.tokens.put_in`). `choices`: blocks and
    steps, as for `Trace.maps`. Raises KeyError for a word that is not in the prompt, and ValueError as
    `Trace.maps` does.
    """
    if trace.text_encoder is None:
        raise ValueError("DAAM reads the whole prompt: load the trace as `Trace.load(path, pipe)`.")
    text = trace.text_encoder.encode(prompt, padded=True)
    places = text.find(word.word if isinstance(word, Token) else word)
    states = text.states
    if isinstance(word, Token):
        word.require_model(trace.key_weights)
        states, places = put_in(states, places, [word] * len(places))
    layers, _, count = trace.block_maps(states, image=image, queries="conditional", **choices)
    grid = max((tuple(layer.shape[-2:]) for layer in layers), key=math.prod)
    tokens = [token for place in places for token in place]
    total = sum(
        F.interpolate(layer[None, tokens], size=grid, mode="bicubic", align_corners=False)[0].clamp(min=0)
        for layer in layers
    )
    return total.mean(dim=0) * len(as_steps(choices.get("steps")) or trace.steps) / count


def attn2mask(
    trace: Trace, text: str | Token, word: str | None = None, *, image: int = 0, beta: float | None = None
) -> Tensor:
    """Scores of background and class, 1 − m − β and m, (2, h, w): m is one step's map, scaled to 0…1.

        scores = attn2mask(trace, "a photograph of a cat", "cat")
        mask = ov.resize(scores, image).argmax(dim=0)
        sure = torch.stack([mask == 0, mask == 1]).float().clamp(0.01, 0.99)
        mask = ov.dense_crf(sure, image).argmax(dim=0)

    Attn2Mask (arXiv 2309.01369), as OVAM's authors re-implemented it for their comparison: the step in the
    middle of the denoising, `beta` 0.2 for words, −0.2 for a `Token`, and a dense CRF that takes the mask for
    almost certain. `word`: None takes the last one.

    Raises ValueError where that step was not recorded, and as `Trace.maps` does.
    """
    beta = (-0.2 if isinstance(text, Token) else 0.2) if beta is None else beta
    maps = trace.maps(text, image=image, steps=middle_step(trace))
    heat = minmax(maps[text.word if isinstance(text, Token) else word or maps.words[-1]])
    return torch.stack([1 - heat - beta, heat])


def middle_step(trace: Trace) -> int:
    """The step in the middle of the whole generation, of which a part may be recorded.

    Raises ValueError where that one is not. A file that does not say how many there were counts as a whole
    generation.
    """
    if not trace.steps:
        return 0  # `maps` says what an empty trace lacks
    passes = trace.passes or trace.steps[-1] + 1
    if passes // 2 not in trace.steps:
        raise ValueError(
            f"Attn2Mask takes the step in the middle, {passes // 2} of {passes}, and those recorded are "
            f"{show_steps(trace.steps)}: record it, too, by "
            f"`ov.record(pipe, steps=({passes // 2}, …))`, or all of them, without `steps`."
        )
    return passes // 2
