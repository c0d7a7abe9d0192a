"""Makes the masks of chapter 00: `python -m workshop.make.first_masks`, a minute.

The bundled model draws chapter 00's pictures, and the judge of `label_sets`, a segmenter that was trained on
rendered scenes, says which pixel shows what. Outlines do not count (255). A thumbnail of each picture stands
beside the masks, so that a mask is never laid over another picture.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from PIL import Image

from ovamnb.course.first_pictures import FOLDER, NAMES, PROMPT, SEEDS
from ovamnb.data.base import thumbnail
from ovamnb.data.emoji_sets import GUIDANCE, STEPS
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.command import ends

from ..train.oracle import JUDGE, load_oracle
from .label_sets import labelled


@ends("python -m workshop.make.first_masks")
def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(prog="python -m workshop.make.first_masks", description=__doc__).parse_args(
        arguments
    )
    pipe = load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    judge = load_oracle(JUDGE, device="cpu")
    tiles, seen = [], {}
    for seed in SEEDS:
        [image] = pipe(
            PROMPT,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
        ).images
        labels = labelled(judge, image, list(NAMES))
        if labels is None:
            raise ValueError(f"The judge finds neither of {', '.join(NAMES)} in the picture of seed {seed}.")
        tiles.append(labels)
        seen[seed] = [round(value) for value in thumbnail(image)]
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(tiles)).save(FOLDER / "first_masks.png", optimize=True)
    text = json.dumps({"prompt": PROMPT, "thumbnails": seen})
    (FOLDER / "first_masks.json").write_text(f"{text}\n", "utf-8")
    print(f"{len(tiles)} pictures")


if __name__ == "__main__":
    main()
