"""Does the model draw what the prompt says? By two opinions that know nothing of each other: is the sprite
itself there (`recognise`, strict), and does the oracle, a segmenter, find the concept?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from .oracle import Oracle
from .recognise import RECOGNISED, recognition
from .sprites import CONCEPTS
from .words import with_article

STEPS = 25
GUIDANCE = 4.0
GROUNDS = ("on grass", "on sand", "in the snow", "on a wooden floor")
SPECK = 0.01  # share of the picture: what the oracle calls a concept on fewer pixels does not count


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


def generate(
    pipe,
    texts: Sequence[str],
    *,
    batch: int = 14,
    guidance: float = GUIDANCE,
    steps: int = STEPS,
    **size: int,
) -> list[Image.Image]:
    """One picture of each prompt, in order, with its number as the seed: nothing is chosen."""
    drawn = []
    for start in tqdm(range(0, len(texts), batch), desc="generating", leave=False):
        part = list(texts[start : start + batch])
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        drawn += pipe(
            part, num_inference_steps=steps, guidance_scale=guidance, generator=seeds, **size
        ).images  # fmt: skip
    return drawn


def generation_rates(pipe, oracle: Oracle, *, images: int) -> tuple[dict[str, dict], list[Image.Image]]:
    """Figures of pictures of one object and of two, `images` each; and the pictures of one object.

    Of each kind: `images`; `match`, the mean of `recognition`; and by both opinions the shares in [0, 1] of
    objects found (`recognised`, `oracle`) and of pictures in which all are (`recognised_all`, `oracle_all`).
    `oracle_unnamed`: how often the oracle finds a concept that was not asked for, of all that were not.
    """
    figures, single = {}, []
    for objects, key in ((1, "one_object"), (2, "two_objects")):
        asked = prompts(objects, images)
        drawn = generate(pipe, [text for text, _ in asked])
        single = single or drawn
        matches, found, unnamed = [], [], []
        for image, (_, named) in zip(tqdm(drawn, desc="measuring"), asked, strict=True):
            matches.append([recognition(np.array(image), concept) for concept in named])
            shown = concepts_shown(oracle, image)
            found.append([concept in shown for concept in named])
            unnamed.append(len(shown - set(named)) / (len(CONCEPTS) - objects))
        match = np.array(matches)
        figures[key] = {
            "images": images,
            "match": float(match.mean()),
            "recognised": float((match >= RECOGNISED).mean()),
            "recognised_all": float((match >= RECOGNISED).all(axis=1).mean()),
            "oracle": float(np.mean(found)),
            "oracle_all": float(np.all(found, axis=1).mean()),
            "oracle_unnamed": float(np.mean(unnamed)),
        }
    return figures, single


def concepts_shown(oracle: Oracle, image: Image.Image) -> set[str]:
    """The concepts that the oracle finds, specks left out."""
    shares = torch.bincount(oracle.labels(image).flatten(), minlength=len(CONCEPTS) + 1) / np.prod(image.size)
    return {concept for concept, share in zip(CONCEPTS, shares[1:].tolist(), strict=True) if share > SPECK}
