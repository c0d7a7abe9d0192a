"""Do places know their words? `python -m workshop.measure.places`, some minutes.

Rendered test scenes of two objects with exact masks, noised at several steps while the UNet reads their
captions. Each object's place, its mask or one random pixel of it, ranks the dictionary's 20 000 words as
`Trace.words_at` does. Counted is how often the best of the object's words is among the first 1, 5, 20:

    class      its name or a synonym that captions use
    held out   a synonym that stood in no caption
    hypernym   animal, vehicle, furniture

"control" asks the other object's place for the same words, and chance is an order at random. Which grid,
which softmax and which order serve best was decided on validation scenes (`--stream validation`). The table
goes to `assets/results/places.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

import ovamnb as ov
from ovamnb.dictionary import rank, shares_at
from ovamnb.emoji import words
from ovamnb.emoji.recorded import NOISE_STEPS, traces
from ovamnb.emoji.scenes import Scene
from ovamnb.emoji.streams import stream
from ovamnb.evaluation.store import model_settings
from ovamnb.plumbing.command import BEGINS_ANEW, ends, positive
from ovamnb.plumbing.files import write_text
from ovamnb.plumbing.lexicon import Vocabulary, read_vocabulary
from ovamnb.select import Blocks
from ovamnb.text import TextEncoder

RESULT = Path(ov.__file__).parent / "assets" / "results" / "places.json"
FIRST = (1, 5, 20)
ROWS: dict[str, tuple[Blocks | None, bool, bool]] = {  # blocks, together, contrast
    "16×16": (16, True, False),
    "16×16, contrast": (16, True, True),
    "16×16, alone": (16, False, False),
    "16×16, alone, contrast": (16, False, True),
    "32×32": (32, True, False),
    "all but the mid block": (None, True, False),
}


def names_of(concept: str) -> dict[str, list[str]]:
    """The words for a concept, by kind."""
    return {
        "class": list(words.NAMES[concept]),
        "held out": [word for word, meant in words.HELD_OUT.items() if meant == concept],
        "hypernym": [word for word, members in words.HYPERNYMS.items() if concept in members],
    }


def pixel_of(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """One of a mask's pixels at random, as a mask (h, w)."""
    inside = mask.nonzero()
    pixel = torch.zeros_like(mask)
    pixel[tuple(inside[int(rng.integers(len(inside)))])] = True
    return pixel


def orders(
    trace, i: int, places: Sequence[Tensor], vocabulary: Vocabulary
) -> dict[str, list[dict[str, int]]]:
    """Row → for each place, word → rank. All places of a scene are asked together, to save time."""
    found, shares = {}, {}
    for row, (blocks, together, contrast) in ROWS.items():
        if (blocks, together) not in shares:
            names, half, image = trace.select(blocks=blocks, image=i)
            layers = [
                (trace.queries[half][n][:, image], trace.key_weights[n], trace.blocks[n]) for n in names
            ]
            usual = [torch.ones_like(places[0])] if (blocks, together, True) in ROWS.values() else []
            shares[blocks, together] = shares_at(layers, [*places, *usual], vocabulary, together)
        values = shares[blocks, together]
        ranked = [
            rank(value, values[-1] if contrast else None, vocabulary.words, 1).everything
            for value in values[: len(places)]
        ]
        found[row] = [{word: k for k, word in enumerate(order, 1)} for order in ranked]
    return found


def measure(pipe, pictures: Sequence[Scene]) -> dict[str, dict]:
    """ "row | place | kind" → objects, the median rank, the shares among the FIRST, of the own place, of the
    control, of a random order."""
    vocabulary, rng = read_vocabulary(TextEncoder.of(pipe)), np.random.default_rng(0)
    found, chances = defaultdict(lambda: defaultdict(list)), defaultdict(list)
    for picture, trace, i in tqdm(traces(pipe, pictures), total=len(pictures), desc="scenes"):
        concepts = [thing.concept for thing in picture.objects]
        masks = [torch.from_numpy(picture.mask(concept)) for concept in concepts]
        places = [place for mask in masks for place in (mask, pixel_of(mask, rng))]
        for row, ranks in orders(trace, i, places, vocabulary).items():
            for k, where in enumerate(ranks):
                for concept in concepts:
                    for kind, names in names_of(concept).items():
                        if known := [where[word] for word in names if word in where]:
                            key = f"{row} | {'pixel' if k % 2 else 'mask'} | {kind}"
                            own = concept == concepts[k // 2]
                            found[key]["own" if own else "control"].append(min(known))
                            if own:
                                chances[key].append(chance(len(known), len(where)))
    return {
        key: {
            "objects": len(ranks["own"]),
            "median": float(np.median(ranks["own"])),
            **{who: [round(float(np.mean(np.array(r) <= k)), 4) for k in FIRST] for who, r in ranks.items()},
            "chance": np.mean(chances[key], axis=0).round(5).tolist(),
        }
        for key, ranks in found.items()
    }


def chance(names: int, total: int) -> list[float]:
    """That one of so many words is among the FIRST of a random order of `total`."""
    return [1 - comb(total - names, k) / comb(total, k) for k in FIRST]


def table(rows: dict[str, dict]) -> str:
    """For reading."""
    lines = [f"{'among the first':<44}{'objects':>8}{'median':>8}" + "".join(f"{k:>7}" for k in FIRST)]
    lines[0] += "".join(f"{who:>12}" for who in ("control 20", "chance 20"))
    for key, row in rows.items():
        shares = "".join(f"{value:7.2f}" for value in row["own"])
        beside = f"{row['control'][-1]:12.2f}{row['chance'][-1]:12.4f}"
        lines.append(f"{key:<44}{row['objects']:>8}{row['median']:>8.0f}{shares}{beside}")
    return "\n".join(lines)


@ends("python -m workshop.measure.places", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.places",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenes", type=positive, default=40, help="of two objects (default %(default)s)")
    parser.add_argument(
        "--stream", choices=("test", "validation"), default="test", help="(default %(default)s)"
    )
    given = parser.parse_args(arguments)
    pipe = ov.load_pipeline()
    rows = measure(pipe, stream(given.stream, given.scenes, objects=2))
    print(table(rows))
    if given.stream == "test":
        about = model_settings(pipe) | {"scenes": given.scenes, "noise_steps": NOISE_STEPS, "first": FIRST}
        write_text(RESULT, json.dumps(about | {"rows": rows}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
