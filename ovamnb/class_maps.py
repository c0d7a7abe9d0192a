"""DiffSegmenter's map of each class, before it is scaled and compared with the others':
M_c = A_self · Σ_r w_r minmax(A_r[c]) (TIP 2025, arXiv 2309.02773)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from .images import encode_prompts, noised, observe
from .recipe import SegmentRecipe
from .refine import complete, minmax, resize
from .text import TextEncoder
from .tokens import Token, put_in
from .trace import Trace
from .unet import attention_grids


def class_maps(
    pipe,
    latents: Tensor,
    groups: Sequence[tuple[str, ...]],
    prompt_of: Callable[[tuple[str, ...]], str],
    recipe: SegmentRecipe,
    seed: int,
    learned: Mapping[str, Token],
) -> list[Tensor]:
    """M_c (h, w) for every class of every group, in order; the classes of a group share one prompt and one
    entry of the UNet's batch. `learned`: {word: `Token`} for the classes that are tokens."""
    encoder = TextEncoder.of(pipe)
    prompts = list(map(prompt_of, groups))
    texts = list(map(encoder.read, prompts))
    states, extra = encode_prompts(pipe, prompts, latents)
    empty = encode_prompts(pipe, "", latents)[0][0]
    read = []  # for each prompt the tokens at which each class is read
    for i, (text, group) in enumerate(zip(texts, groups, strict=True)):
        places = text.places(group)
        after = [text.ing_after(place) if recipe.with_ing else [] for place in places]
        vectors = [learned.get(name) for name in group] + [None] * len(group)
        states[i], places = put_in(states[i], places + after, vectors)
        if recipe.subtokens == "last":
            places = [place[-1:] for place in places]
        own, after = places[: len(group)], places[len(group) :]
        states[i] = emphasised(states[i], empty, list(chain.from_iterable(own)), recipe.emphasis)
        read.append([one + other for one, other in zip(own, after, strict=True)])

    finest = attention_grids(pipe.unet, latents.shape[-2:])[0]
    draws = noised(pipe, latents, recipe.timesteps, recipe.samples, seed)
    recording = {"self_attention": (finest,), "blocks": recipe.blocks, "device": latents.device}
    trace = observe(pipe, draws, states, extra, **recording, dtype=torch.float32)
    for name in chain.from_iterable(groups):
        if name in learned:
            learned[name].require_model(trace.key_weights)
    found = []
    for i, places in enumerate(read):
        affinity = trace.self_attention(finest, image=i)
        by_factor = resolutions(trace, states[i], i, max(latents.shape[-2:]))
        for place in places:
            heats = {times: maps[place].mean(dim=0) for times, maps in by_factor.items()}
            found.append(complete(fuse(heats, recipe.weights), affinity, power=recipe.power))
    return found


def emphasised(states: Tensor, empty: Tensor, tokens: Sequence[int], emphasis: float) -> Tensor:
    """empty + emphasis · (state − empty) for the chosen tokens, the others as they are: states, empty (token,
    dim). This is what "cat++" means in compel, with emphasis 1.1² = 1.21."""
    raised = states.clone()
    raised[tokens] = empty[tokens] + emphasis * (states[tokens] - empty[tokens])
    return raised


def resolutions(trace: Trace, states: Tensor, image: int, latent_side: int) -> dict[int, Tensor]:
    """{how many times smaller than the latents: maps (token, h, w)}, averaged over heads, layers (the mid
    block's too) and steps."""
    sides = sorted({max(block.grid) for block in trace.blocks.values()}, reverse=True)
    return {
        2 ** round(math.log2(latent_side / side)): trace.maps(states, image=image, blocks=side).share.values
        for side in sides
    }


def fuse(heats: Mapping[int, Tensor], weights: Mapping[int, float]) -> Tensor:
    """Σ_r w_r · minmax(A_r), (h, w) on the finest grid.

    The keys r: how many times smaller than the latents. Raises ValueError where no map has a weight.
    """
    if not any(weights.get(times) for times in heats):
        have = ", ".join(map(str, sorted(heats)))
        raise ValueError(
            f"None of this model's resolutions ({have} times smaller than the latents) has a weight above 0 "
            f"in {dict(weights)}: weigh at least one of them."
        )
    grid = max((heat.shape for heat in heats.values()), key=math.prod)
    return sum(weights.get(times, 0.0) * minmax(resize(heat, grid)) for times, heat in heats.items())
