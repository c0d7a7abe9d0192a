"""A labelled training set from words: `python -m ovamnb.synthesize --n 20 --out runs/synthetic`.

    python -m ovamnb.synthesize --classes cat dog --n 500 --model sd15 --tokens pets.safetensors --out pets
    accelerate launch --num_processes 4 -m ovamnb.synthesize --classes … --model sd15 --tokens … --out …
    torchrun --nproc_per_node 2 -m ovamnb.synthesize --device cpu --out …      # on CPUs

The set has Pascal VOC's layout, and a line for each picture in metadata.jsonl. A killed run goes on by the
same command, and a larger --n adds pictures to a set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.base import Data
from ..evaluation.arguments import start, tokens_if_needed
from ..evaluation.methods import TOKEN, parse
from ..pipelines import find_device
from ..plumbing.command import WRONG, ends, positive, require_writable
from .agreement import Agreement
from .filters import FILTERS, Limits, shares
from .label_maps import METHODS, check_band
from .lists import finish
from .prompts import SEED, TEMPLATES, Plan, check_classes, from_captions, from_table, from_templates
from .synthesis import ROW, Synthesis, check_rows
from .tune import RECORDED, UNTUNED, load_bands


def parser_of() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ovamnb.synthesize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the folder of the set")
    add("--classes", nargs="+", help="what the pictures show (default: the words of the tokens)")
    add("--n", type=positive, default=20, help="pictures per class, or per line (default %(default)s)")
    add("--model", default="bundled", help="name or folder, as for ov.load_pipeline (default %(default)s)")
    add("--tokens", type=Path, help="a file, or voc-sd15 (default: the bundled model's)")
    prompts = parser.add_mutually_exclusive_group()
    slots = "sentences with a slot {} for the class, one more per further class (default: a photograph of {})"
    prompts.add_argument("--templates", nargs="+", default=TEMPLATES, help=slots)
    captions = "a text file with a caption in each line; its picture shows the classes that it names"
    prompts.add_argument("--captions", type=Path, help=captions)
    columns = "a CSV file with the columns prompt, classes (a;b) and, optionally, seed"
    prompts.add_argument("--prompts", type=Path, help=columns)
    add("--seed", type=int, default=SEED, help="seed of the first picture (default %(default)s)")
    methods = f"what makes the masks: {', '.join(METHODS)}; append {TOKEN} to query with tokens"
    add("--masks", default=ROW, metavar="METHOD", help=f"{methods} (default %(default)s)")
    add("--also", nargs="*", default=[], metavar="METHOD", help="methods of further masks, to compare with")
    band = "for --masks: what scores between them is left out of the labels (default: tuned)"
    add("--thresholds", nargs=2, type=float, metavar=("LOW", "HIGH"), help=band)
    add("--steps", type=positive, help="denoising steps (default: as the model was tested)")
    add("--guidance", type=float, help="guidance scale (default: as the model was tested)")
    add("--size", nargs=2, type=positive, metavar=("H", "W"), help="in pixels (default: the model's own)")
    add(
        "--record",
        type=positive,
        default=RECORDED,
        help="steps recorded, evenly spaced (default %(default)s)",
    )
    add("--batch", type=positive, default=4, help="pictures generated at once (default %(default)s)")
    add("--clip", help="the CLIP that scores, from the hub or a folder (default: fits the model)")
    areas = "keep masks between these percentiles of area in their class (default 5 95)"
    add("--areas", nargs=2, type=float, default=(5, 95), metavar="P", help=areas)
    scores = "keep pictures from this percentile of CLIP's score in their class (default %(default)s)"
    add("--least-score", type=float, default=25, metavar="P", help=scores)
    add("--device", help="cuda, mps or cpu (default: the best there is)")
    return parser


def plans_of(given: argparse.Namespace, classes: tuple[str, ...]) -> list[Plan]:
    """The pictures to generate."""
    if given.captions:
        return list(from_captions(classes, given.n, given.captions, seed=given.seed))
    if given.prompts:
        return list(from_table(classes, given.n, given.prompts, seed=given.seed))
    return list(from_templates(classes, given.n, given.templates, seed=given.seed))


def bands_for(given: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Method → (low, high): the given thresholds, and those tuned for the bundled model."""
    tuned = dict(load_bands()) if given.model == "bundled" else {}
    if given.thresholds:
        tuned[given.masks] = tuple(given.thresholds)
    for row in (given.masks, *given.also):
        if row not in tuned:
            print(
                f"Nobody has tuned '{row}' for this model: what scores between {UNTUNED[0]} and {UNTUNED[1]} "
                "is left out of the labels. `python -m ovamnb.synthesize.tune` finds better thresholds."
            )
    return tuned


def sampling_for(given: argparse.Namespace) -> tuple[int, float]:
    """Denoising steps and guidance scale."""
    steps, guidance = Data.steps, Data.guidance
    if given.model == "bundled":
        from ..data.emoji_sets import GUIDANCE, STEPS

        steps, guidance = STEPS, GUIDANCE
    return given.steps or steps, guidance if given.guidance is None else given.guidance


@ends("python -m ovamnb.synthesize")
def main(arguments: list[str] | None = None) -> None:
    parser = parser_of()
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):  # mistakes are found before the model is loaded
        require_writable(given.out)
        find_device(given.device)
        asked = [parse(row, METHODS) for row in (given.masks, *given.also)]
        with_tokens = any(with_tokens for _, with_tokens in asked)
        tokens = tokens_if_needed(given, with_tokens or not given.classes)
        classes = check_classes(given.classes or tuple(tokens))
        plans = plans_of(given, classes)
        limits = Limits(*given.areas, given.least_score)
        bands = bands_for(given)
        if given.thresholds:
            check_band(*given.thresholds)
        check_rows((given.masks, *given.also), classes, tokens)

    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    steps, guidance = sampling_for(given)
    clip = given.clip or ("bundled" if given.model == "bundled" else None)
    score = Agreement.load(clip, pipe.device)
    synthesis = Synthesis(
        pipe,
        classes,
        score,
        tokens,
        row=given.masks,
        also=given.also,
        bands=bands,
        steps=steps,
        guidance=guidance,
        size=tuple(given.size) if given.size else None,
        recorded=min(given.record, steps),
        batch=given.batch,
    )
    synthesis.run(plans, given.out)
    state.wait_for_everyone()
    if state.is_main_process:
        report(finish(given.out, plans, limits), given.out)


def report(found: dict[str, list[str]], folder: Path) -> None:
    """Print the share of pictures that each filter keeps."""
    kept = shares(found)
    for name in (*FILTERS, "all"):
        print(f"{name:8} keeps {kept[name]:6.1%}")
    print(f"{round(kept['all'] * len(found))} of {len(found)} pictures are listed in '{folder}'.")


if __name__ == "__main__":
    main()
