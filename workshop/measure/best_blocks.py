"""Which of the bundled model's grids serve best: `python -m workshop.measure.best_blocks`, two minutes.

For each class, three validation scenes of one object: a token is learned from the first, and word and token
are asked for on the other two. The mIoU over the classes, at the best of the thresholds, for each choice of
blocks. `Drawing.best` of `ovamnb.models` follows it.
"""

from __future__ import annotations

import argparse

import torch

from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import of_concept
from ovamnb.images import record_image
from ovamnb.optimize import optimize_token
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.command import BEGINS_ANEW, ends
from ovamnb.plumbing.english import with_article
from ovamnb.refine import binarize, resize
from ovamnb.select import Blocks
from ovamnb.unet import attention_grids

LEVELS = (50, 150, 300, 450)  # of noise, as in chapter 05
THRESHOLDS = tuple(0.05 * i for i in range(4, 18))


def choices(pipe) -> dict[str, Blocks | None]:
    """Each grid alone, the two finest together, and all."""
    sides = sorted({max(grid) for grid in attention_grids(pipe.unet)})
    alone = {f"{side}×{side}": side for side in sides}
    return alone | {" + ".join(list(alone)[-2:]): sides[-2:], "all but the mid block": None}


def measure(pipe, concepts=CONCEPTS, *, scenes: int = 3) -> dict[tuple[str, str], float]:
    """(choice, "word" or "token") → mIoU."""
    found = {
        (choice, asked): torch.zeros(len(THRESHOLDS), len(concepts), 2)  # pixels in both, in either
        for choice in choices(pipe)
        for asked in ("word", "token")
    }
    for k, name in enumerate(concepts):
        pictures = of_concept("validation", name, scenes, objects=1, seed=5)
        traces = [record_image(pipe, p.image, p.caption, timesteps=LEVELS) for p in pictures]
        masks = [torch.from_numpy(picture.mask(name)) for picture in pictures]
        for choice, blocks in choices(pipe).items():
            token = optimize_token(traces[0], masks[0], init=name, blocks=blocks)
            queries = {"word": f"a photograph of {with_article(name)}", "token": token}
            for asked, query in queries.items():
                for trace, mask in zip(traces[1:], masks[1:], strict=True):
                    heat = resize(trace.maps(query, blocks=blocks)[name], mask)
                    for i, threshold in enumerate(THRESHOLDS):
                        guess = binarize(heat, threshold)
                        pixels = torch.stack([(guess & mask).sum(), (guess | mask).sum()])
                        found[choice, asked][i, k] += pixels
    return {row: (s[..., 0] / s[..., 1]).mean(dim=1).max().item() for row, s in found.items()}


@ends("python -m workshop.measure.best_blocks", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(
        prog="python -m workshop.measure.best_blocks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    pipe = load_pipeline()
    found = measure(pipe)
    print(f"{'mIoU':<24}{'word':>8}{'token':>8}")
    for choice in choices(pipe):
        print(f"{choice:<24}{found[choice, 'word']:8.3f}{found[choice, 'token']:8.3f}")


if __name__ == "__main__":
    main()
