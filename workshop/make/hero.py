"""Draws the README's picture with the bundled model: `python -m workshop.make.hero`."""

import argparse
from pathlib import Path

import torch

import ovamnb as ov
from ovamnb.unet import attention_grids

PROMPT = "a cat and a car on grass"
WORDS = ("kitten", "animal", "automobile", "grass")
SEED = 19

if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m workshop.make.hero", description=__doc__).parse_args()
    pipe = ov.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    with ov.record(pipe, self_attention=attention_grids(pipe.unet)[:1]) as trace:
        image = pipe(
            PROMPT,
            num_inference_steps=25,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(SEED),
        ).images[0]
    affinity = trace.self_attention(attention_grids(pipe.unet)[0])
    heats = {word: ov.complete(trace.maps(f"a photograph of {word}").share[word], affinity) for word in WORDS}
    figure = ov.contact_sheet(image, heats, label="share of attention", columns=5)
    target = Path(__file__).parents[2] / "docs" / "hero.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=130)
    print(target.name, f"{target.stat().st_size / 1024:.0f} KiB")
