"""What attention causes: `python -m workshop.measure.cause`, half an hour of a core.

Pictures that the bundled model draws under the interventions of `ovamnb.intervene`, read by the judge, a
segmenter that never sees attention. Nothing is chosen: concepts come in turn, and the number of a case is its
seed. The results, a row for each case, go to `ovamnb/assets/results/cause.json`, part by part.

swap      keys, values or both of a word are another's: whose picture is it, and where?
layout    another word under the first one's attention maps, and under its own, from the same noise
weight    how large is an object whose word counts 0 to 4 times?
forgotten a cat, a dog and a car, of which one is often missing: does Attend-and-Excite bring it back?
silence   each head, each layer: what is left of the object, what of the picture?
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ovamnb import intervene
from ovamnb.data.emoji_sets import GUIDANCE
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.pipelines import BUNDLED, load_pipeline
from ovamnb.plumbing.command import ends, positive
from ovamnb.plumbing.english import with_article
from ovamnb.plumbing.files import write_text
from ovamnb.recorder import record
from ovamnb.unet import attentions

from ..train.oracle import JUDGE, Oracle, load_oracle
from .generation import GROUNDS, SPECK

RESULTS = BUNDLED.parent / "results" / "cause.json"
STEPS = 12  # half of the course's: what is compared is drawn alike
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
NAMES = tuple(name for name in CONCEPTS if " " not in name)  # one token each


class Stage:
    """The model and the judge: draws pictures of one batch from the same noise, and reads them."""

    def __init__(self, pipe, judge: Oracle) -> None:
        self.pipe, self.judge = pipe, judge

    def draw(self, prompts: Sequence[str], seed: int, **options) -> list[Image.Image]:
        return self.pipe(
            list(prompts), num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            generator=intervene.twins(seed, len(prompts)), **options,
        ).images  # fmt: skip

    def mask(self, image: Image.Image, *concepts: str) -> Tensor:
        """(h, w) bool: the pixels of these concepts; of any, if none is given."""
        labels = self.judge.labels(image)
        own = [labels == CONCEPTS.index(concept) + 1 for concept in concepts]
        return sum(own).bool() if own else labels > 0


def share(mask: Tensor) -> float:
    return round(float(mask.float().mean()), 4)


def case(number: int, stream: int) -> tuple[str, str, str]:
    """(concept, another one, ground) of a case: each concept in turn, the other one by chance."""
    name, ground = NAMES[number % len(NAMES)], GROUNDS[number % len(GROUNDS)]
    others = [other for other in NAMES if other != name]
    return name, others[int(np.random.default_rng((stream, number)).integers(len(others)))], ground


def swap(stage: Stage, i: int) -> Iterator[dict]:
    """Of each way: the shares of the picture that show the first and the second concept, and the IoU of what
    is drawn with the plain picture's object."""
    ways = {"keys": {"values": False}, "values": {"keys": False}, "both": {}}
    name, other, ground = case(i, 1)
    prompt = f"a photograph of {with_article(name)} {ground}"
    with ExitStack() as stack:
        for image, options in enumerate(ways.values(), 1):
            stack.enter_context(intervene.swap(stage.pipe, prompt, {name: other}, images=image, **options))
        drawn = stage.draw([prompt] * 4, i)
    where = stage.mask(drawn[0])
    yield {
        "prompt": prompt, "word": name, "other": other, "seed": i,
        **{
            way: {
                "word": share(stage.mask(image, name)),
                "other": share(stage.mask(image, other)),
                "iou": round(intervene.mask_iou(where, stage.mask(image)), 4),
            }
            for way, image in zip(("plain", *ways), drawn, strict=True)
        },
    }  # fmt: skip


def layout(stage: Stage, i: int) -> Iterator[dict]:
    """The IoU of the second concept's mask with the first one's in the source, and the same of the object
    that both prompts name, under plain drawing and under the kept layout; and what share shows the new
    word."""
    name, other, ground = case(i, 2)
    third = NAMES[(i + 9) % len(NAMES)]
    if third == other:
        third = NAMES[(i + 10) % len(NAMES)]
    source, target = (
        f"a photograph of {with_article(first)} and {with_article(third)} {ground}" for first in (name, other)
    )
    [plain] = stage.draw([target], i)
    with intervene.keep_layout(stage.pipe, source, target):
        first, kept = stage.draw([source, target], i)
    yield {
        "source": source, "word": name, "other": other, "seed": i,
        **{
            way: {
                "new": round(intervene.mask_iou(stage.mask(first, name), stage.mask(image, other)), 4),
                "same": round(intervene.mask_iou(stage.mask(first, third), stage.mask(image, third)), 4),
                "all": round(intervene.mask_iou(stage.mask(first), stage.mask(image)), 4),
                "other": share(stage.mask(image, other)),
                "word": share(stage.mask(image, name)),
            }
            for way, image in (("plain", plain), ("kept", kept))
        },
    }  # fmt: skip


def weight(stage: Stage, i: int) -> Iterator[dict]:
    """The share of the picture that shows the word's concept, and that shows any, for each of `WEIGHTS`."""
    name, _, ground = case(i, 3)
    prompt = f"a photograph of {with_article(name)} {ground}"
    with ExitStack() as stack:
        for image, factor in enumerate(WEIGHTS):
            stack.enter_context(intervene.reweight(stage.pipe, prompt, {name: factor}, images=image))
        drawn = stage.draw([prompt] * len(WEIGHTS), i)
    yield {
        "prompt": prompt, "word": name, "seed": i,
        "own": [share(stage.mask(image, name)) for image in drawn],
        "any": [share(stage.mask(image)) for image in drawn],
    }  # fmt: skip


def forgotten(stage: Stage, i: int) -> Iterator[dict]:
    """The shares of all three before, and after the latents were pushed."""
    words = ("cat", "dog", "car")
    prompt = f"a cat and a dog and a car {GROUNDS[i % len(GROUNDS)]}"
    [before] = stage.draw([prompt], i)
    with intervene.excite(stage.pipe, prompt, words) as push:
        [after] = stage.draw([prompt], i, callback_on_step_end=push)
    yield {
        "prompt": prompt, "seed": i,
        "before": [share(stage.mask(before, word)) for word in words],
        "after": [share(stage.mask(after, word)) for word in words],
        "losses": {step: np.round(found, 4).tolist() for step, found in push.losses.items()},
    }  # fmt: skip


def silence(stage: Stage, i: int) -> Iterator[dict]:
    """For each head of each cross-attention, all of its heads, and all of the self-attention beside it: the
    share of pixels that changed inside and outside the objects of the plain picture, the IoU of what is drawn
    with them, and the share of the picture that shows the word's."""
    cross, _ = attentions(stage.pipe.unet, False)
    name, _, ground = case(i, 4)
    prompt = f"a photograph of {with_article(name)} {ground}"
    with record(stage.pipe, steps=1) as trace:
        [plain] = stage.draw([prompt], i)
    object_ = stage.mask(plain)
    for block, attn in cross.items():
        beside = block.replace("attn2", "attn1")
        trials = [({"heads": head}, block) for head in range(attn.heads)]
        trials += [({}, block), ({"attention": "self"}, beside)]
        with ExitStack() as stack:
            for image, (options, where) in enumerate(trials):
                stack.enter_context(intervene.silence(stage.pipe, blocks=where, images=image, **options))
            drawn = stage.draw([prompt] * len(trials), i)
        labels = [*map(str, range(attn.heads)), "all", "self"]
        yield {
            "prompt": prompt, "word": name, "seed": i, "block": block,
            "grid": trace.blocks[block].grid, "plain": share(object_),
            **{
                label: {
                    "changed": [round(part, 4) for part in intervene.effect(plain, image, object_)],
                    "iou": round(intervene.mask_iou(object_, stage.mask(image)), 4),
                    "own": share(stage.mask(image, name)),
                }
                for label, image in zip(labels, drawn, strict=True)
            },
        }  # fmt: skip


PARTS = {
    "swap": (swap, 20),
    "layout": (layout, 20),
    "weight": (weight, 10),
    "forgotten": (forgotten, 20),
    "silence": (silence, 6),
}
"""name → (what measures a case, how many there are)"""


@ends("python -m workshop.measure.cause", again="the same command goes on with the cases that are missing.")
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.cause",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--cases", type=positive, help="of each part (default: 20; 10 weights, 6 of silence)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where they go (default: the assets)")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"There is no part {', '.join(sorted(unknown))}: say {', '.join(PARTS)}.")
    pipe = load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    stage = Stage(pipe, load_oracle(JUDGE, device="cpu"))
    results = json.loads(given.out.read_text("utf-8")) if given.out.exists() else {}
    results |= {"steps": STEPS, "guidance": GUIDANCE, "speck": SPECK}
    for part in given.parts or PARTS:
        measure, count = PARTS[part]
        rows = results.setdefault(part, [])
        there = {row["seed"] for row in rows}
        for number in tqdm(range(given.cases or count), desc=part):
            if number not in there:
                rows += measure(stage, number)
                write_text(given.out, as_lines(results), make_folder=True)


def as_lines(results: dict) -> str:
    """JSON with a line for each row of a part."""
    parts = []
    for key, value in sorted(results.items()):
        rows = [f"  {json.dumps(row)}" for row in value] if isinstance(value, list) else []
        text = "[\n" + ",\n".join(rows) + "\n ]" if rows else json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
