"""Does the model draw what the prompt says? By two opinions that know nothing of each other: is the sprite
itself there (`recognise`, strict), and does the oracle, a segmenter, find the concept?

    python -m workshop.measure.generation runs/bundled/pipeline --sheet sheet.png

draws every concept with two seeds, nothing chosen, and says how much of it is recognised.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ovamnb.data.emoji_sets import GUIDANCE, STEPS
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.english import with_article
from ovamnb.plumbing.files import whole

from ..train.oracle import Oracle
from .recognise import RECOGNISED, SIDES, recognition

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


def save_sheet(pictures: Sequence[Image.Image], each: int, path: Path) -> None:
    """`sheet` as a file, which is there whole or not at all."""
    with whole(path, make_folder=True) as partial:
        sheet(pictures, each).save(partial, format=path.suffix[1:] or "png", quality=90)


def sheet(pictures: Sequence[Image.Image], each: int, columns: int = 7) -> Image.Image:
    """Pictures of a round of concepts, then of another, as one: those of a concept side by side."""
    concepts, side = len(pictures) // each, pictures[0].width
    page = Image.new("RGB", (columns * each * side, -(-concepts // columns) * side))
    for i, picture in enumerate(pictures):
        round_, concept = divmod(i, concepts)
        row, column = divmod(concept, columns)
        page.paste(picture, ((column * each + round_) * side, row * side))
    return page


def main(arguments: list[str] | None = None) -> None:
    """Draw every concept and say how much of it is recognised."""
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.generation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", default="bundled", help="a folder or known name (%(default)s)")
    parser.add_argument("--each", type=int, default=2, help="pictures of a concept (default %(default)s)")
    parser.add_argument("--batch", type=int, default=14, help="pictures at a time (default %(default)s)")
    parser.add_argument("--side", type=int, default=128, help="of a picture in pixels (default %(default)s)")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="default %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="default %(default)s")
    parser.add_argument("--sheet", type=Path, help="where to write all pictures, a PNG")
    given = parser.parse_args(arguments)

    pipe = load_pipeline(given.model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    # A small canvas is one of the first stage of training, where a sprite nearly fills it.
    sides = SIDES if given.side >= 128 else sorted({*range(40, given.side - 1, 3), *SIDES})
    asked = prompts(1, given.each * len(CONCEPTS))
    drawn = generate(
        pipe, [text for text, _ in asked], batch=given.batch, guidance=given.guidance, steps=given.steps,
        height=given.side, width=given.side,
    )  # fmt: skip
    values = []
    for image, (prompt, (concept,)) in zip(drawn, asked, strict=True):
        values.append(recognition(np.array(image), concept, sides))
        print(f"{values[-1]:.2f}  {prompt}", flush=True)
    share = np.mean(np.array(values) >= RECOGNISED)
    print(f"mean {np.mean(values):.3f}, recognised (≥ {RECOGNISED}) {share:.0%} of {len(values)}")
    if given.sheet is not None:
        save_sheet(drawn, given.each, given.sheet)


if __name__ == "__main__":
    main()
