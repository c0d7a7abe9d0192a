"""Do the words find their objects? Maps of rendered scenes with exact masks, noised at several steps.

The UNet reads a scene's caption in plain class names; then words are asked of the recorded queries, one
attribution text each, "a photograph of a cat". A map counts as right where it agrees with the object's
visible pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from tqdm.auto import tqdm

from ovamnb.emoji import words
from ovamnb.emoji.recorded import NOISE_STEPS, traces
from ovamnb.emoji.scenes import Scene
from ovamnb.emoji.scores import ThresholdScores
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import stream
from ovamnb.refine import minmax, resize
from ovamnb.text import TextEncoder

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
DEFAULT = "down + up (OVAM's default)"
SELECTIONS = ("class", "held out", "class of held out", "wrong")
"""What is asked: the class name; a held-out word; the class name on those same objects; a class that is not
there."""


def questions(picture: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """(selection, word, concept whose mask is the truth) for every object of a scene."""
    held_out = {concept: word for word, concept in words.HELD_OUT.items()}
    here = {thing.concept for thing in picture.objects}
    absent = [concept for concept in CONCEPTS if concept not in here]
    for thing in picture.objects:
        yield "class", thing.concept, thing.concept
        yield "wrong", absent[int(rng.integers(len(absent)))], thing.concept
        if thing.concept in held_out:
            yield "held out", held_out[thing.concept], thing.concept
            yield "class of held out", thing.concept, thing.concept


def sweep_thresholds(
    pipe, pictures: list[Scene], thresholds: dict[str, Sequence[float]], selections: Sequence[str]
) -> dict[tuple[str, str], ThresholdScores]:
    """(block, selection) → its scores, for the blocks that `thresholds` names; DEFAULT stands for OVAM's
    sum."""
    scores = {(block, s): ThresholdScores(cuts) for block, cuts in thresholds.items() for s in selections}
    encode = cache(TextEncoder.of(pipe).encode)  # the same thirty-odd texts thousands of times
    rng = np.random.default_rng(0)
    for picture, trace, i in tqdm(traces(pipe, pictures), total=len(pictures), desc="maps"):
        for selection, word, concept in questions(picture, rng):
            if selection not in selections:
                continue
            truth = torch.from_numpy(picture.mask(concept))
            text = encode(f"a photograph of {words.with_article(word)}")
            tokens = [token for place in text.find(word) for token in place]
            for block in thresholds:
                maps = trace.maps(text.states, image=i, blocks=None if block == DEFAULT else [block])
                heat = resize(maps.values[tokens].mean(0), truth)
                scores[block, selection].add(minmax(heat), truth, concept)
    return scores


def selection_rates(pipe, pictures: list[Scene], blocks: object) -> dict[str, float]:
    """Shares of words whose map is denser (mean over the mask) on their own object than on the other's.

    "class" asks with class names, "held out" with held-out words where an object has one and counts those
    only; "together": both words stand in one attribution text and compete in its softmax, else "alone".
    """
    held_out = {concept: word for word, concept in words.HELD_OUT.items()}
    right: dict[str, list[bool]] = defaultdict(list)
    for picture, trace, i in tqdm(traces(pipe, pictures), total=len(pictures), desc="selection"):
        concepts = [thing.concept for thing in picture.objects]
        for what, names in (("class", {}), ("held out", held_out)):
            asked = [names.get(concept, concept) for concept in concepts]
            together = " and ".join(map(words.with_article, asked))
            for k, (word, concept) in enumerate(zip(asked, concepts, strict=True)):
                if what == "held out" and concept not in held_out:
                    continue
                mine, other = (torch.from_numpy(picture.mask(concepts[j])) for j in (k, 1 - k))
                for how, text in (("together", together), ("alone", words.with_article(word))):
                    heat = resize(trace.maps(text, image=i, blocks=blocks)[word], mine)
                    right[f"{what}, {how}"].append(bool(heat[mine].mean() > heat[other].mean()))
    return {name: float(np.mean(answers)) for name, answers in right.items()}


def measure_maps(pipe, *, test: int = 300, validation: int = 80) -> dict:
    """Figures b–e on test scenes; thresholds and the best block come from validation scenes."""
    blocks = [*block_names(pipe), DEFAULT]
    tuning = sweep_thresholds(
        pipe, stream("validation", validation), dict.fromkeys(blocks, THRESHOLDS), ["class"]
    )
    tuned = {block: tuning[block, "class"] for block in blocks}
    best = max(block_names(pipe), key=lambda block: tuned[block].miou(tuned[block].best()))
    cuts = {block: tuned[block].best() for block in blocks}
    pictures = stream("test", test)
    some = {block: cuts[block] for block in (best, DEFAULT)}
    rows = score(pipe, pictures, some, SELECTIONS)
    others = score(pipe, pictures, {b: cut for b, cut in cuts.items() if b not in some}, ["class"])
    pairs = stream("test", test, objects=2)
    return {
        "best_block": best,
        "noise_steps": NOISE_STEPS,
        "scenes": test,
        "maps": {
            block: {"validation": tuned[block].miou(cuts[block])} | (rows | others)[block] for block in cuts
        },
        "maps_one_object": score(pipe, stream("test", test, objects=1), some, SELECTIONS),
        "selection": selection_rates(pipe, pairs, [best]),
    }


def score(
    pipe, pictures: list[Scene], cuts: dict[str, float], selections: Sequence[str]
) -> dict[str, dict[str, float]]:
    """block → its threshold and the mIoU of each selection, for the blocks and thresholds of `cuts`."""
    scores = sweep_thresholds(pipe, pictures, {block: [cut] for block, cut in cuts.items()}, selections)
    return {
        block: {"threshold": cut} | {s: scores[block, s].miou(cut) for s in selections}
        for block, cut in cuts.items()
    }


def block_names(pipe) -> list[str]:
    """The cross-attentions of the UNet, by name."""
    return [
        name for name, module in pipe.unet.named_modules() if getattr(module, "is_cross_attention", False)
    ]
