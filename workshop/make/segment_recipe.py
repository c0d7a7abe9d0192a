"""Chooses DiffSegmenter's settings for a model: `python -m workshop.make.segment_recipe`, some ten minutes.

One setting after another moves from the paper's value to the best of a few, on validation scenes of two
objects whose classes are given. The background score and the settings of a dense CRF come last, on more of
these scenes. Then the test scenes are cut once with what was chosen: with the classes given, and with all
concepts as candidates behind the bundled CLIP filter, each as it is and after the CRF. The background score
that would have been best on the test scenes stands beside it as "oracle": only who knows the answer has it.

Writes the recipe beside the model, as `segment.json`, which `ov.segment` reads, and the figures into its
`figures.json` and model card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from ovamnb.crf import load_crf
from ovamnb.emoji.scenes import Scene
from ovamnb.emoji.scores import cut, sweep
from ovamnb.emoji.streams import stream
from ovamnb.evidence import ClipFilter
from ovamnb.pipelines import BUNDLED, load_pipeline
from ovamnb.plumbing.command import BEGINS_ANEW, WRONG, ends
from ovamnb.recipe import SegmentRecipe

from ..measure.word_maps import block_names
from .card import write_card

SHARPNESS = (3.0, 6.0, 12.0)


def choices(pipe) -> list[list[dict]]:
    """One setting after another, in the order in which they are tried: the values to try, each as fields of a
    recipe. Where to look comes first: in an up block, in one of its attentions, or in several resolutions."""
    names = [name.split(".transformer_blocks")[0] for name in block_names(pipe) if name.startswith("up")]
    levels = sorted({name.split(".attentions")[0] for name in names}, reverse=True)
    single = [
        {"blocks": block, "weights": {2**k: 1.0}}
        for k, level in enumerate(levels[:2])  # of the coarser ones each pixel is larger than many an object
        for block in (level, *(name for name in names if name.startswith(level)))
    ]
    shares = ({1: 0.5, 2: 0.5}, {1: 0.3, 2: 0.7}, {1: 0.7, 2: 0.2, 4: 0.1}, {1: 0.3, 2: 0.5, 4: 0.2})
    several = [{"blocks": "up_blocks", "weights": weights} for weights in shares]
    return [
        single + several,
        [{"together": True}],
        [{"timesteps": steps} for steps in ((50,), (200,), (300,), (100, 200, 300))],
        [{"article": True}, {"template": "{}"}, {"template": "{}", "article": True}],
        [{"latents": "mode"}],
        [{"minmax_at": "map"}],
        [{"subtokens": "mean"}],
        [{"emphasis": emphasis} for emphasis in (1.0, 1.6, 2.5)],
        [{"power": 2}],
        [{"samples": 4}],
    ]


def tune(pipe, pictures: Sequence[Scene]) -> tuple[SegmentRecipe, dict[str, float]]:
    """The best recipe found, its background score included; and the mIoU of the paper's and of the best, each
    at the background score that suits it."""

    def score(recipe: SegmentRecipe) -> tuple[float, SegmentRecipe]:
        swept = sweep(tqdm(cut(pipe, pictures, recipe), total=len(pictures), leave=False))
        background = max(swept, key=swept.get)
        return swept[background], replace(recipe, background=background)

    paper, recipe = score(SegmentRecipe())
    best = paper
    print(f"{'the paper’s recipe':<56}{paper:.3f} at background {recipe.background}", flush=True)
    for values in choices(pipe):
        base = recipe
        for fields in values:
            found, candidate = score(replace(base, **fields))
            better = "  *" if found > best else ""
            name = " ".join(f"{field} {value}" for field, value in fields.items())
            print(f"{name:<56}{found:.3f} at background {candidate.background}{better}", flush=True)
            if found > best:
                best, recipe = found, candidate
    return recipe, {"paper": paper, "tuned": best}


def tune_background(pipe, pictures: Sequence[Scene], recipe: SegmentRecipe) -> SegmentRecipe:
    """The recipe with the best background score; and with the best settings of the CRF that may end it."""
    results = list(cut(pipe, tqdm(pictures), recipe))
    swept = sweep(results)
    background = max(swept, key=swept.get)
    print(f"{'background score':<56}{swept[background]:.3f} at background {background}", flush=True)
    recipe = replace(recipe, background=background)
    if not has_crf():
        return recipe
    ended = {
        (sharpness, rival): miou
        for sharpness in SHARPNESS
        for rival, miou in sweep(results, sharpness).items()
    }
    sharpness, rival = best = max(ended, key=ended.get)
    print(f"{f'CRF, sharpness {sharpness}':<56}{ended[best]:.3f} at background {rival}", flush=True)
    return replace(recipe, crf_background=rival, crf_sharpness=sharpness)


def has_crf() -> bool:
    """Whether the package for the dense CRF is installed; prints the remedy if not."""
    try:
        load_crf()
    except ImportError as error:
        print(error, flush=True)
        return False
    return True


@ends("python -m workshop.make.segment_recipe", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.make.segment_recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", default="bundled", help="a pipeline folder (default %(default)s)")
    parser.add_argument(
        "--validation",
        type=int,
        default=40,
        help="scenes to choose on, thrice as many for the background scores (default %(default)s)",
    )
    parser.add_argument("--test", type=int, default=150, help="scenes to report on (default %(default)s)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        pipe = load_pipeline(given.model, device=given.device)
    folder = BUNDLED if given.model == "bundled" else Path(given.model)

    recipe, validation = tune(pipe, stream("validation", given.validation, objects=2))
    recipe = tune_background(pipe, stream("validation", 3 * given.validation, objects=2), recipe)
    recipe.save(folder)
    print(f"{recipe} → {folder}")
    test = stream("test", given.test, objects=2)
    figures = {"scenes": given.test, "background": recipe.background, "validation": validation, "test": {}}

    def report(name: str, swept: dict[float, float], background: float) -> None:
        figures["test"][name] = {"tuned": swept[background], "oracle": max(swept.values())}
        print(f"test, {name:<40}{swept[background]:.3f}, oracle {max(swept.values()):.3f}", flush=True)

    paper = SegmentRecipe(background=recipe.background)
    report("the paper's recipe, classes given", sweep(cut(pipe, tqdm(test), paper)), recipe.background)
    for name, keep in (("classes given", None), ("classes by filter", ClipFilter.load("bundled"))):
        results = list(cut(pipe, tqdm(test), recipe, keep))
        report(name, sweep(results), recipe.background)
        if has_crf():
            report(f"{name}, + CRF", sweep(results, recipe.crf_sharpness), recipe.crf_background)
    path = folder / "figures.json"
    others = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(others | {"segmentation": figures}, indent=2) + "\n")
    write_card(folder)


if __name__ == "__main__":
    main()
