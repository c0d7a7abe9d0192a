"""Does the model draw what the prompt says? Judged by a classifier that was trained on rendered scenes."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from .classifier import Judge
from .sprites import CONCEPTS
from .words import with_article

STEPS = 25
GUIDANCE = 4.0
GROUNDS = ("on grass", "on sand", "in the snow", "on a wooden floor")


def prompts(objects: int, count: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    """(prompt, the concepts it names); every concept comes up equally often."""
    rng = np.random.default_rng(seed)
    chosen = []
    for i in range(count):
        first = CONCEPTS[i % len(CONCEPTS)]
        others = [c for c in CONCEPTS if c != first]
        named = [first, *(others[int(k)] for k in rng.choice(len(others), objects - 1, replace=False))]
        text = " and ".join(with_article(name) for name in named)
        chosen.append((f"a photograph of {text} {GROUNDS[i % len(GROUNDS)]}", named))
    return chosen


@torch.no_grad()
def generation_rates(pipe, judge: Judge, *, images: int, batch: int = 16) -> dict[str, float]:
    """Shares in [0, 1]: `one_object`; `two_objects_each` (an object of a pair), `two_objects_both` (both of
    a pair);
    `chance`: how often an unnamed concept is found, the rate of a model that ignores its prompt."""
    place = next(judge.parameters()).device
    rates: dict[str, float] = {}
    unnamed = []
    for objects, key in ((1, "one_object"), (2, "two_objects")):
        asked = prompts(objects, images)
        hits = []
        for start in tqdm(range(0, len(asked), batch), desc=f"generating, {objects} object(s)"):
            part = asked[start : start + batch]
            seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
            made = pipe(
                [text for text, _ in part],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=seeds,
                output_type="pt",
            ).images  # (batch, 3, h, w) in [0, 1]
            found = judge.found((made * 2 - 1).float().to(place)).cpu().numpy()
            for row, (_, named) in zip(found, part, strict=True):
                own = [CONCEPTS.index(name) for name in named]
                hits.append([bool(row[k]) for k in own])
                unnamed.append(np.delete(row, own).mean())
        if objects == 1:
            rates[key] = float(np.mean(hits))
        else:
            rates[f"{key}_each"] = float(np.mean(hits))
            rates[f"{key}_both"] = float(np.all(hits, axis=1).mean())
    return rates | {"chance": float(np.mean(unnamed))}
