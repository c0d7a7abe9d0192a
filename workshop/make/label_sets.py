"""Makes emoji-sim and emoji-cap: `python -m workshop.make.label_sets`.

The model draws; the judge, a segmenter that was trained on rendered scenes, says which pixel shows what. It
is not the oracle that annotated for the shipped tokens: the two share no scene and no first weight, so that
no token is judged by its own teacher. Outlines, where a pixel belongs to two things, do not count (255). What
the judge sees and the prompt does not name stays in the labels; the index says which classes the prompt
names. A picture in which the judge finds none of these is left out, and the index names it. Pictures are kept
under `--work`, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ovamnb.data.base import SPLITS, thumbnail
from ovamnb.data.emoji_sets import FOLDER, GUIDANCE, STEPS
from ovamnb.data.on_disk import IGNORED
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import stream_rng
from ovamnb.emoji.words import GROUND_PHRASES, HELD_OUT, NAMES, caption, pick
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.command import ends
from ovamnb.plumbing.english import listed, with_article
from ovamnb.plumbing.files import whole

from ..train.oracle import JUDGE, Oracle, load_oracle, oracle_miou, without_borders
from .token_bank import SMALLEST

SIMPLE = {"validation": 1, "test": 3}
"""Pictures of each concept, alone."""
PAIRS = {"validation": (9,), "test": (5, 11)}
"""Pictures of each concept beside the one so many places further in the list: no pair comes twice."""
CAPTIONED = {"validation": 48, "test": 160}
Plan = dict[str, object]
"""name, split, prompt, seed, named: the classes that the prompt names."""


def simple_plans() -> Iterator[Plan]:
    """ "a photograph of a cat", alone and with a second class, from seeds that no shipped token ever saw."""
    for split, count in SIMPLE.items():
        for number, concept in enumerate(CONCEPTS):
            for k in range(count):
                seed = {"validation": 100_000, "test": 200_000}[split] + 10 * number + k
                name = f"{split}-{concept.replace(' ', '-')}-{k + 1}"
                prompt = f"a photograph of {with_article(concept)}"
                yield {"name": name, "split": split, "prompt": prompt, "seed": seed, "named": [concept]}
    for split, distances in PAIRS.items():
        for k, distance in enumerate(distances):
            for number, concept in enumerate(CONCEPTS):
                named = [concept, CONCEPTS[(number + distance) % len(CONCEPTS)]]
                yield {
                    "name": f"{split}-{'-and-'.join(named).replace(' ', '-')}",
                    "split": split,
                    "prompt": f"a photograph of {listed(named)}",
                    "seed": {"validation": 400_000, "test": 500_000}[split] + 10 * number + k,
                    "named": named,
                }


def captioned_plans() -> Iterator[Plan]:
    """Captions of one and two objects; every second time an object goes by another word than its class's
    name, if it has one: a synonym, or a word that stood in no caption the model was trained on."""
    for split, count in CAPTIONED.items():
        first = {"validation": 0, "test": 1000}[split]
        for k in range(first, first + count):
            rng = stream_rng(0, "captions", k)
            named = [CONCEPTS[i] for i in rng.choice(len(CONCEPTS), 1 + k % 2, replace=False)]
            phrases = [with_article(free_word(rng, concept)) for concept in named]
            yield {
                "name": f"{split}-{k - first:03d}",
                "split": split,
                "prompt": caption(rng, phrases, pick(rng, tuple(GROUND_PHRASES))),
                "seed": 300_000 + k,
                "named": named,
            }


def free_word(rng: np.random.Generator, concept: str) -> str:
    """The class's name, or as often another word for it, where there is one."""
    held_out = [word for word, means in HELD_OUT.items() if means == concept]
    others = [*NAMES[concept][1:], *held_out]
    return pick(rng, others) if others and rng.random() < 0.5 else concept


PLANS = {"emoji-sim": simple_plans, "emoji-cap": captioned_plans}


def drawn(pipe, plan: Plan, folder: Path) -> Image.Image:
    """The picture of a plan, drawn once and then read back."""
    path = folder / f"{plan['name']}.png"
    if not path.exists():
        [image] = pipe(
            plan["prompt"],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(plan["seed"]),
        ).images
        with whole(path, make_folder=True) as partial:
            image.save(partial, format="png")
    with Image.open(path) as image:
        return image.convert("RGB")


def labelled(judge: Oracle, image: Image.Image, named: list[str]) -> np.ndarray | None:
    """The labels (h, w) uint8 of all that the judge sees; None where it finds none of the named classes.
    Specks, a class of less than SMALLEST of the picture, do not count."""
    labels = judge.labels(image)
    undecided = without_borders(labels).numpy() == IGNORED
    labels = labels.numpy().astype(np.uint8)
    specks = [label for label in np.unique(labels) if (labels == label).mean() <= SMALLEST]
    found = set(np.unique(labels)) - {*specks}
    labels[np.isin(labels, specks) | undecided] = IGNORED
    return labels if any(CONCEPTS.index(name) + 1 in found for name in named) else None


def make(pipe, judge: Oracle | None, kind: str, work: Path, trust: dict[str, float]) -> None:
    """Draws a set's pictures and, given a judge, writes its labels and its index to the assets."""
    plans = list(PLANS[kind]())
    pictures = [drawn(pipe, plan, work / kind) for plan in tqdm(plans, desc=f"drawing {kind}")]
    if judge is None:
        return
    rows, tiles = [], []
    for plan, image in zip(plans, tqdm(pictures, desc="labelling"), strict=True):
        labels = labelled(judge, image, plan["named"])
        if labels is not None:
            seen = [round(v) for v in thumbnail(image)]
            rows.append(plan | {"thumbnail": seen})
            tiles.append(labels)
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(tiles)).save(FOLDER / f"{kind}.png", optimize=True)
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    kept = {row["name"] for row in rows}
    dropped = {
        split: [p["name"] for p in plans if p["split"] == split and p["name"] not in kept] for split in SPLITS
    }
    head = f'"judge": {json.dumps(trust)},\n "dropped": {json.dumps(dropped)}'
    (FOLDER / f"{kind}.json").write_text(f'{{{head},\n "pictures": [\n  {lines}\n]}}\n')
    print(f"{kind}: {len(rows)} pictures, {len(plans) - len(rows)} dropped")


@ends("python -m workshop.make.label_sets")
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.make.label_sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--judge", type=Path, default=JUDGE, help="its weights (default: the repository's second oracle)"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/sets"), help="where pictures are kept")
    parser.add_argument("--only-draw", action="store_true", help="no labels yet")
    given = parser.parse_args(arguments)
    pipe = load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    judge, trust = None, {}
    if not given.only_draw:
        judge = load_oracle(given.judge, device="cpu")
        trust = {
            "rendered": oracle_miou(judge),
            "with borders": oracle_miou(judge, borders=True),
            "reconstructed": oracle_miou(judge, pipe.vae),
        }
        print(f"the judge's mIoU: {trust}", flush=True)
    for kind in PLANS:
        make(pipe, judge, kind, given.work, trust)


if __name__ == "__main__":
    main()
