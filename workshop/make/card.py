"""The model card: README.md of a pipeline folder, written from what training and evaluation measured."""

from __future__ import annotations

import json
from pathlib import Path

from ovamnb.emoji.sprites import CONCEPTS, STYLES
from ovamnb.emoji.words import HELD_OUT

from ..measure.recognise import RECOGNISED
from ..train.denoiser import HEADS
from ..train.stages import STAGES

SHEET = "sheet.webp"  # every concept twice, nothing chosen: beside the card

_TEMPLATE = """---
license: mit
library_name: diffusers
pipeline_tag: text-to-image
---
# The bundled model of ovamnb

A small `StableDiffusionPipeline` that draws emoji scenes. It was trained from nothing, by
`python -m workshop.train.model`, to be looked into: it loads with plain diffusers, runs in seconds on two CPU
cores, and every picture it was trained on has exact masks (which training never saw; they only measure).

    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained("ovamnb/assets/bundled")
    pipe("a photograph of a cat and a red car on grass", num_inference_steps=25, guidance_scale=4).images[0]

| part | what |
|---|---|
| VAE | `AutoencoderKL`, factor 4: 128×128 pixels ↔ 4×32×32 latents |
| text encoder | frozen table of 20 000 word vectors distilled from all-MiniLM-L6-v2; learned positions |
| UNet | three levels (32, 16, 8); self- and cross-attention in all blocks but the first; {heads} heads |
| scheduler | DDIM, Stable Diffusion's noise schedule, v-prediction |

## Data and licences
Scenes of one to three objects out of {concepts} concepts in {styles} art styles on eight procedural
grounds, with captions from a grammar, composed anew for every step. Art: Fluent Emoji (Microsoft, MIT),
Noto Emoji (Google, Apache-2.0), Twemoji (CC-BY 4.0); word vectors: all-MiniLM-L6-v2 (Apache-2.0). Held out
of every caption: {held_out}.

## Training
{training}

## Figures
{figures}

## Limits
It knows {concepts} things and eight grounds, on 128×128 pixels. Its words carry no context: "red" colours
what it likes, and word order says little. Faces and other small parts are smudges, and now and then a thing
comes twice. A word outside its 20 000 is refused.
"""


def write_card(folder: Path) -> None:
    """Writes `folder/README.md` from `training.json` and, if there is one, `figures.json`. A model that
    others trained has no `training.json` and keeps the card it has."""
    if not (folder / "training.json").is_file():
        return
    training = json.loads((folder / "training.json").read_text())
    path = folder / "figures.json"
    measured = json.loads(path.read_text()) if path.exists() else {}
    card = _TEMPLATE.format(
        concepts=len(CONCEPTS),
        styles=len(STYLES),
        held_out=", ".join(sorted(HELD_OUT)),
        heads=", ".join(map(str, HEADS)),
        training=_training(training),
        figures=_figures(measured) if "maps" in measured else "Not measured yet.",
    )
    (folder / "README.md").write_text(card)


def _training(record: dict) -> str:
    plan, vae, unet = record["plan"], record["vae"], record["unet"]
    stages = ", ".join(
        f"{plan[f'{name}_steps']:,} at {stage.size[1]}×{stage.size[0]}" for name, stage in STAGES.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"""| | VAE | UNet |
|---|---|---|
| steps | {vae["step"]:,} | {unet["step"]:,}: {stages} |
| scenes seen | {vae["scenes"]:,} | {unet["scenes"]:,} |
| time | {vae["seconds"] / 60:.0f} min | {unet["seconds"] / 60:.1f} min |
| last loss | {vae["loss"]:.4f} | {unet["loss"]:.4f} |

AdamW {plan["learning_rate"]} with warm-up and a cosine tail, EMA, 10 % empty captions,
seed {plan["seed"]}; {record["device"]}; {versions}.
The VAE reconstructs 64 held-out scenes with a mean absolute error of {vae["error"]} grey levels of 255
(PSNR {vae["psnr"]} dB). {record.get("note", "")}"""


def _rows(maps: dict, best: str) -> str:
    return "\n".join(
        f"| {'**' + name + '**' if name == best else name} | {row['threshold']} | "
        + " | ".join(
            f"{row[kind]:.3f}" if kind in row else ""
            for kind in ("class", "held out", "class of held out", "wrong")
        )
        + " |"
        for name, row in maps.items()
    )


def _figures(figures: dict) -> str:
    best = figures["best_block"]
    selection = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures["selection"].items())
    noise = ", ".join(map(str, figures["noise_steps"]))
    text = f"""**Maps.** mIoU of a word's map with its object's visible pixels on {figures["scenes"]} held-out
rendered scenes, noised at {noise} of 1000 and read with their captions; each map from its
minimum to its maximum, cut at a threshold that was chosen, like the **best block**, on other scenes.
"wrong": a class that is not in the scene, as control. In scenes of two and three objects a map must tell
its object from the others:

| cross-attention | threshold | class word | held-out word | class word, same objects | wrong word |
|---|---|---|---|---|---|
{_rows(figures["maps"], best)}

In {figures["scenes"]} scenes of one object it need only tell it from the ground:

| cross-attention | threshold | class word | held-out word | class word, same objects | wrong word |
|---|---|---|---|---|---|
{_rows(figures["maps_one_object"], best)}

**Selection.** In scenes of two objects, share of words whose map (best block) is denser on their own object
than on the other.

| words | share |
|---|---|
{selection}
"""
    if "generation" in figures:
        text += _generation(figures["generation"])
    if "refinement" in figures:
        text += _refinement(figures["refinement"])
    if "segmentation" in figures:
        text += _segmentation(figures["segmentation"])
    return text


def _generation(figures: dict) -> str:
    kinds = {"one object": figures["one_object"], "two objects": figures["two_objects"]}
    columns = ("match", "recognised", "recognised_all", "oracle", "oracle_all", "oracle_unnamed")
    rows = "\n".join(
        f"| {name} | {row['images']} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |"
        for name, row in kinds.items()
    )
    return f"""
**Generation.** "A photograph of a cat on grass": is the thing there? *Match* compares outlines and parts with
the sprites (`workshop.measure.recognise`; 1 is the sprite itself, rendered scenes reach .94, another thing's
sprite .3), and from {RECOGNISED} on it is *recognised*; the *oracle* is a segmenter that was trained on
rendered scenes. No seed was chosen.

| prompt | pictures | match | recognised: each | all | oracle: each | all | what was not asked for |
|---|---|---|---|---|---|---|---|
{rows}

![Every concept, twice, with the first seeds there are]({SHEET})
"""


def _refinement(figures: dict) -> str:
    kinds = ("one object", "two objects", "drawn")
    lines = "\n".join(
        f"| {row} | " + " | ".join(f"{figures[kind][row]['miou']:.3f}" for kind in kinds) + " |"
        for row in figures["one object"]
    )
    return f"""

**Sharpening.** mIoU of a word's map cut at a threshold that was chosen on other pictures. On
{figures["scenes"]} held-out rendered scenes, noised as the segmentation's recipe says; and on pictures that
the model draws, where the oracle's labels stand for the truth (their own mIoU on rendered scenes is
{figures["oracle"]:.3f}).

| | one object | two objects | drawn, one object |
|---|---|---|---|
{lines}
"""


def _segmentation(figures: dict) -> str:
    rows = "\n".join(
        f"| {name} | {row['tuned']:.3f} | {row['oracle']:.3f} |" for name, row in figures["test"].items()
    )
    return f"""

**Segmentation.** DiffSegmenter on {figures["scenes"]} held-out rendered scenes of two objects, mIoU without
the background; the recipe (`segment.json`), its background score {figures["background"]} and the CRF's
settings were chosen on validation scenes (`python -m workshop.make.segment_recipe`), where the recipe reached
{figures["validation"]["tuned"]:.3f} and the paper's {figures["validation"]["paper"]:.3f}.
"Oracle": the background score that suits the test scenes best.

| | mIoU | oracle |
|---|---|---|
{rows}
"""
