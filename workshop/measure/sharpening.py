"""What sharpening is worth: a word's map as it is, completed by self-attention, and after a dense CRF that
takes its scores as probabilities and is cut afterwards.

On rendered scenes, whose masks are exact, and on pictures that the model itself draws. Those have no masks:
there the `oracle` answers for them, and its own mIoU on rendered scenes says how far to trust it. Each row's
threshold is chosen on other pictures of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ovamnb.crf import after_crf
from ovamnb.data.emoji_sets import GUIDANCE, STEPS
from ovamnb.emoji.scenes import Scene
from ovamnb.emoji.scores import ThresholdScores
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import stream
from ovamnb.images import record_image
from ovamnb.plumbing.english import with_article
from ovamnb.recipe import SegmentRecipe
from ovamnb.recorder import record
from ovamnb.refine import complete, minmax, resize
from ovamnb.trace import Trace

from ..train.oracle import Oracle, oracle_miou
from .generation import prompts
from .word_maps import THRESHOLDS

Example = tuple[str, dict[str, Tensor], Tensor]
"""Concept, row → score (h, w) in 0 to 1, truth (h, w) bool."""


def sharpened(trace: Trace, image: Image.Image, concept: str, side: int, blocks) -> dict[str, Tensor]:
    """The three rows of a word's map at the image's size; two where no CRF is installed."""
    heat = trace.maps(f"a photograph of {with_article(concept)}", blocks=blocks)[concept]
    fine = complete(heat, trace.self_attention(side))
    rows = {"plain map": minmax(resize(heat, image)), "+ completion": minmax(resize(fine, image))}
    with suppress(ImportError):
        rows["+ soft CRF"] = after_crf(rows["+ completion"][None], image)[0]
    return rows


def rendered(pipe, pictures: Iterable[Scene], recipe: SegmentRecipe) -> Iterator[Example]:
    """Every object of every scene; the model reads the scene's caption."""
    for picture in pictures:
        image = Image.fromarray(picture.image)
        side = pipe.unet.config.sample_size
        trace = record_image(pipe, image, picture.caption, timesteps=recipe.timesteps, self_attention=(side,))
        for thing in picture.objects:
            rows = sharpened(trace, image, thing.concept, side, recipe.blocks)
            yield thing.concept, rows, torch.from_numpy(picture.mask(thing.concept))


def drawn(pipe, oracle: Oracle, seed: int, recipe: SegmentRecipe) -> Iterator[Example]:
    """One picture of every concept that the oracle finds in it; what it does not find has no truth."""
    side = pipe.unet.config.sample_size
    for k, (text, [concept]) in enumerate(prompts(1, len(CONCEPTS))):
        generator = torch.Generator().manual_seed(len(CONCEPTS) * seed + k)
        with record(pipe, self_attention=(side,)) as trace:
            [image] = pipe(
                text, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator
            ).images
        truth = oracle.labels(image) == CONCEPTS.index(concept) + 1
        if truth.any():
            yield concept, sharpened(trace, image, concept, side, recipe.blocks), truth


def rows(
    choose_on: Iterable[Example], report_on: Iterable[Example], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, dict[str, float]]:
    """Row → its threshold, chosen on the first examples, and its mIoU on the second."""

    def score(examples: Iterable[Example]) -> dict[str, ThresholdScores]:
        scores: dict[str, ThresholdScores] = {}
        for concept, maps, truth in examples:
            for row, heat in maps.items():
                scores.setdefault(row, ThresholdScores(thresholds)).add(heat, truth, concept)
        return scores

    chosen = {row: found.best() for row, found in score(choose_on).items()}
    reported = score(report_on)
    return {
        row: {"threshold": threshold, "miou": reported[row].miou(threshold)}
        for row, threshold in chosen.items()
    }


def measure_refinement(pipe, oracle: Oracle, *, scenes: int = 100) -> dict:
    """The table for one object, for two, and for pictures that the model draws; minutes on two cores."""
    recipe = SegmentRecipe.of(pipe)

    def examples(name: str, objects: int) -> Iterator[Example]:
        pictures = tqdm(stream(name, scenes, objects=objects), desc=f"sharpening, {objects} object(s)")
        return rendered(pipe, pictures, recipe)

    return {
        "scenes": scenes,
        "oracle": oracle_miou(oracle),
        "one object": rows(examples("validation", 1), examples("test", 1)),
        "two objects": rows(examples("validation", 2), examples("test", 2)),
        "drawn": rows(drawn(pipe, oracle, 1, recipe), drawn(pipe, oracle, 2, recipe)),
    }
