"""The tokens that come with this package, one for each class: `python -m workshop.make.token_bank`.

Each is learned from one picture that the bundled model drew of "a photograph of a …", annotated not by hand
but by `oracle`, a segmenter that was trained on rendered scenes. Of TRIES pictures of a class (more, up to
MOST, while the oracle finds it in none) the one is taken whose object the oracle is surest of: its mean
certainty on the pixels that it gives to the class, where these are neither a speck nor nearly everything. The
tokens go to `assets/tokens.safetensors`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ovamnb.data.emoji_sets import GUIDANCE, STEPS
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import to_tensor
from ovamnb.optimize import optimize_token
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.command import BEGINS_ANEW, ends
from ovamnb.plumbing.english import with_article
from ovamnb.recorder import record
from ovamnb.tokens import BUNDLED_TOKENS, Token, save_tokens

from ..train.oracle import TRAINED, Oracle, load_oracle

TRIES, MOST = 3, 20
SMALLEST, LARGEST = 0.02, 0.6  # share of the picture


@torch.no_grad()
def annotation(oracle: Oracle, image: Image.Image, concept: str) -> tuple[float, Tensor]:
    """(certainty, mask (h, w) bool) of a concept in a picture; 0 where it is a speck or nearly everything."""
    chances = oracle(to_tensor(np.array(image))[None])[0].softmax(dim=0)  # (concept + 1, h, w)
    label = CONCEPTS.index(concept) + 1
    mask = chances.argmax(dim=0) == label
    if not SMALLEST < mask.float().mean() < LARGEST:
        return 0.0, mask
    return chances[label][mask].mean().item(), mask


def learn(pipe, oracle: Oracle, concept: str, tries: int) -> Token | None:
    """The token of one class; None where the oracle finds it in none of the pictures."""
    best, token = 0.0, None
    for seed in range(max(tries, MOST)):
        if seed >= tries and token is not None:
            break
        with record(pipe) as trace:
            [image] = pipe(
                f"a photograph of {with_article(concept)}",
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=torch.Generator().manual_seed(seed),
            ).images
        certainty, mask = annotation(oracle, image, concept)
        if certainty > best:
            best, token = certainty, optimize_token(trace, mask, init=concept)
    return token


@ends("python -m workshop.make.token_bank", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.make.token_bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--oracle", type=Path, default=TRAINED, help="its weights (default: the repository's)"
    )
    parser.add_argument("--tries", type=int, default=TRIES, help="pictures of a class (default %(default)s)")
    parser.add_argument("--out", type=Path, default=BUNDLED_TOKENS)
    given = parser.parse_args(arguments)
    pipe = load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    oracle = load_oracle(given.oracle, device="cpu")
    tokens = {
        concept: learn(pipe, oracle, concept, given.tries) for concept in tqdm(CONCEPTS, desc="classes")
    }
    missing = [concept for concept, token in tokens.items() if token is None]
    if missing:
        print(f"No picture of {', '.join(missing)} in which the oracle finds it: raise --tries.")
    save_tokens([token for token in tokens.values() if token is not None], given.out)


if __name__ == "__main__":
    main()
