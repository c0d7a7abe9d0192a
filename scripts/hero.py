"""Draws the README's picture with the bundled model: `python scripts/hero.py`."""

import json
from pathlib import Path

import torch

import ovamnb as ov
from ovamnb.pipelines import BUNDLED

PROMPT = "a cat and a car on grass"
WORDS = ("kitten", "animal", "automobile", "grass")
SEED = 10

if __name__ == "__main__":
    pipe = ov.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    with ov.record(pipe) as trace:
        image = pipe(
            PROMPT,
            num_inference_steps=25,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(SEED),
        ).images[0]
    best = json.loads((BUNDLED / "figures.json").read_text())["best_block"]
    heats = {word: trace.maps(f"a photograph of {word}", blocks=best).share[word] for word in WORDS}
    figure = ov.contact_sheet(image, heats, label="share of attention", columns=5)
    target = Path(__file__).parents[1] / "docs" / "hero.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=130)
    print(target.name, f"{target.stat().st_size / 1024:.0f} KiB")
