"""What an optimised token is worth, beside the plain word: `python -m workshop.measure.token_worth`.

Five annotated scenes of every class make five tokens of it, each from one scene alone; they are asked about
scenes they never saw, with other grounds, sizes, noise and captions, in four ways: OVAM, DAAM,
Attn2Mask and DiffSegmenter. Beside them stand tokens learned with the paper's background, the start token
alone. The mean and the spread over the five annotations are reported, not the best one.
Each row's threshold is chosen on validation scenes and reported on test scenes, for words and tokens alike.
Masks are exact, since the scenes are rendered: each class has three drawings, which come back in other sizes,
on other grounds. What shipped tokens are worth on pictures that the model draws, `python -m
ovamnb.evaluation` says. The figures go to `assets/tokens.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ovamnb.baselines import attn2mask, daam
from ovamnb.crf import after_crf
from ovamnb.emoji.scenes import Scene
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import of_concept
from ovamnb.images import record_image
from ovamnb.optimize import optimize_token
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.command import BEGINS_ANEW, ends
from ovamnb.plumbing.english import with_article
from ovamnb.refine import complete, minmax, resize
from ovamnb.segmentation import segment
from ovamnb.tokens import BUNDLED_TOKENS, FIGURES, Token, average, load_tokens
from ovamnb.trace import Trace

from .sharpening import Example, rows

TIMESTEPS = (50, 150, 300, 450)
THRESHOLDS = tuple(round(0.2 + 0.05 * i, 2) for i in range(13))
ANNOTATIONS = 5
ASKED = ("word", "token", "start only", "average of five", "one from five", "shipped", "mask")
"""The plain word; a token of each annotation; the same with the start token alone as the background that it
competes with, as in the OVAM paper, instead of the other tokens of its text; the mean of the first five; one
token from all five at once; the token that comes with this package; and the exact mask on the maps' grid, for
what a perfect map would score.
"""
Ask = str | Token | None
"""A word, a token, or None for the exact mask."""


@dataclass(frozen=True)
class Seen:
    """A scene of a concept, and the recording of the model's look at it."""

    concept: str
    picture: Scene
    trace: Trace

    @property
    def truth(self) -> Tensor:
        """(h, w) bool"""
        return torch.from_numpy(self.picture.mask(self.concept))


def look(pipe, stream: str, count: int, objects: int = 1) -> list[Seen]:
    """`count` scenes of every concept, recorded at TIMESTEPS while the model reads their captions."""
    side = pipe.unet.config.sample_size
    return [
        Seen(
            concept,
            picture,
            record_image(
                pipe,
                Image.fromarray(picture.image),
                picture.caption,
                timesteps=TIMESTEPS,
                self_attention=(side,),
            ),
        )
        for concept in tqdm(CONCEPTS, desc=f"{stream} scenes, {objects} object(s)")
        for picture in of_concept(stream, concept, count, objects)
    ]


def answers(pipe, seen: Seen, ask: Ask, *, everything: bool) -> dict[str, Tensor]:
    """Row → a map (h, w) in 0 to 1, of a word or a token; `everything`: not only OVAM's."""
    trace, concept, image = seen.trace, seen.concept, seen.picture.image
    text = ask if isinstance(ask, Token) else f"a photograph of {with_article(ask or concept)}"
    heat = trace.maps(text)[concept]
    if ask is None:
        heat = F.adaptive_avg_pool2d(seen.truth[None].float(), heat.shape)[0]
    fine = complete(heat, trace.self_attention(max(heat.shape)))
    found = {
        "OVAM": minmax(resize(heat, image)),
        "OVAM + completion": minmax(resize(fine, image)),
    }
    for row in tuple(found):
        found[f"{row} + soft CRF"] = after_crf(found[row][None], image)[0]
    if everything and ask is not None:
        found["DAAM"] = minmax(resize(daam(trace, seen.picture.caption, ask), image))
        scores = resize(attn2mask(trace, text, concept), image)
        found["Attn2Mask, no CRF"] = scores.argmax(dim=0).float()
        found["DiffSegmenter"] = segment(pipe, image, [ask]).scores[0]
    return found


def ask_all(pipe, scenes: Sequence[Seen], asked: dict[str, Ask], everything: bool) -> Iterator[Example]:
    """What `sharpening.rows` scores: every scene, asked for its concept by what stands for it."""
    for seen in tqdm(scenes, desc="asking", leave=False):
        yield seen.concept, answers(pipe, seen, asked[seen.concept], everything=everything), seen.truth


def tokens_of(annotated: Sequence[Seen]) -> dict[str, list[dict[str, Ask]]]:
    """ASKED → what stands for each concept, once or once for each annotation."""
    given = {
        "word": [{c: c for c in CONCEPTS}],
        "shipped": [load_tokens()] if BUNDLED_TOKENS.is_file() else [],
    }
    if not annotated:
        return given
    own = {c: [seen for seen in annotated if seen.concept == c] for c in CONCEPTS}
    one_each, start_only = (
        [
            {c: optimize_token(seen[k].trace, seen[k].truth, init=c, **way) for c, seen in own.items()}
            for k in range(ANNOTATIONS)
        ]
        for way in ({}, {"background": "start"})
    )
    together = {
        c: optimize_token([s.trace for s in seen], [s.truth for s in seen], init=c) for c, seen in own.items()
    }
    return given | {
        "token": one_each,
        "start only": start_only,
        "average of five": [{c: average([tokens[c] for tokens in one_each]) for c in CONCEPTS}],
        "one from five": [together],
        "mask": [dict.fromkeys(CONCEPTS)],
    }


def measure(pipe, wanted: Sequence[str], *, validation: int, test: int) -> Iterator[tuple[str, str, dict]]:
    """(asked how, of which pictures, row → mIoU of each annotation's token), one after the other."""
    asked = tokens_of(look(pipe, "tokens", ANNOTATIONS) if set(wanted) - {"word", "shipped"} else [])
    for objects in (1, 2):
        choose, report = look(pipe, "validation", validation, objects), look(pipe, "test", test, objects)
        for how in wanted:
            scored = [
                rows(
                    ask_all(pipe, choose, choice, objects != 2),
                    ask_all(pipe, report, choice, objects != 2),
                    THRESHOLDS,
                )
                for choice in asked[how]
            ]
            if scored:
                table = {row: [round(one[row]["miou"], 4) for one in scored] for row in scored[0]}
                yield how, f"{objects} object(s)", table


@ends("python -m workshop.measure.token_worth", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.token_worth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--validation", type=int, default=2, help="scenes of a class (default %(default)s)")
    parser.add_argument("--test", type=int, default=4, help="scenes of a class (default %(default)s)")
    parser.add_argument("--ask", nargs="+", choices=ASKED, help="only some of the rows")
    parser.add_argument("--out", type=Path, default=FIGURES)
    given = parser.parse_args(arguments)
    wanted = given.ask or ASKED
    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    figures = json.loads(given.out.read_text()) if given.out.is_file() else {"miou": {}}
    figures |= {"annotations": ANNOTATIONS, "classes": len(CONCEPTS), "timesteps": TIMESTEPS}
    figures |= {"rendered of a class": {"validation": given.validation, "test": given.test}}
    for how, objects, scored in measure(pipe, wanted, validation=given.validation, test=given.test):
        print(
            f"{how}, {objects}",
            *(f"  {row:<26}{np.mean(v):.3f} ± {np.std(v):.3f}" for row, v in scored.items()),
            sep="\n",
        )
        figures["miou"].setdefault(how, {})[objects] = scored
        given.out.write_text(json.dumps(figures, indent=2) + "\n")  # an interrupted run keeps its rows


if __name__ == "__main__":
    main()
