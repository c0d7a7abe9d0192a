"""The bundled model: small, loadable by anyone, and it keeps what its card says."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import ovamnb as ov
from ovamnb.data.emoji_sets import GUIDANCE, STEPS
from ovamnb.emoji import CONCEPTS, words
from ovamnb.models import drawing_of
from ovamnb.pipelines import BUNDLED
from workshop.make.card import SHEET
from workshop.measure.best_blocks import measure
from workshop.measure.generation import generate, prompts
from workshop.measure.recognise import RECOGNISED, recognition
from workshop.train.text_table import MAX_TOKENS, VOCABULARY_SIZE, nearest_class


@pytest.fixture(scope="module")
def pipe():
    pipe = ov.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, **options):
    generator = torch.Generator().manual_seed(0)
    return pipe(
        "a cat and a car on grass", num_inference_steps=3, generator=generator, output_type="np", **options
    )


def test_it_is_small_and_holds_safetensors_only():
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40 * 2**20
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]


@pytest.mark.parametrize("how", ["diffusers", "ovamnb"])
@pytest.mark.slow
def test_it_loads_in_a_fresh_process_without_a_warning(how):
    load = {
        "diffusers": "from diffusers import StableDiffusionPipeline as P\n"
        f"pipe = P.from_pretrained({str(BUNDLED)!r})\n"
        "pipe('a cat', num_inference_steps=1, height=64, width=64)",
        "ovamnb": "import ovamnb as ov\npipe = ov.load_pipeline()",
    }[how]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::UserWarning",
            "-c",
            f"{load}\nassert pipe.unet.config.sample_size == 32",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if how == "ovamnb":
        assert done.stdout == "" and done.stderr == ""


def test_attention_stands_at_three_resolutions(pipe):
    with ov.record(pipe) as trace:
        draw(pipe)
    assert {block.grid for block in trace.blocks.values()} == {(32, 32), (16, 16), (8, 8)}


def test_recording_leaves_the_image_as_it_is(pipe):
    bare = draw(pipe).images
    with ov.record(pipe, self_attention=(32,), queries="both"):
        recorded = draw(pipe).images
    assert (bare == recorded).all()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipe.unet.modules())


def test_no_hook_is_left_after_an_exception(pipe):
    def fail(*_):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"), ov.record(pipe):
        draw(pipe, callback_on_step_end=fail)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipe.unet.modules())


def test_pictures_need_not_be_square(pipe):
    with ov.record(pipe) as trace:
        draw(pipe, height=96, width=160)
    assert trace.maps("a kitten")["kitten"].shape == (24, 40)


def test_held_out_words_are_known_and_near_their_class(pipe):
    near = [
        nearest_class(pipe.tokenizer, pipe.text_encoder, word) == concept
        for word, concept in words.HELD_OUT.items()
    ]
    assert sum(near) >= 0.85 * len(near), dict(zip(words.HELD_OUT, near, strict=True))


def test_a_word_it_has_never_seen_is_refused_in_a_sentence(pipe):
    with ov.record(pipe) as trace:
        draw(pipe)
    with pytest.raises(ValueError, match="kittne"):
        trace.maps("a kittne")
    with pytest.raises(KeyError, match="kitten"):
        trace.maps("a kitten")["puppy"]


def test_vocabulary_and_limits(pipe):
    assert len(pipe.tokenizer) == VOCABULARY_SIZE + 3
    assert pipe.tokenizer.model_max_length == MAX_TOKENS
    unknown = pipe.tokenizer.unk_token_id
    known = [*CONCEPTS, *words.HYPERNYMS, *words.HELD_OUT]
    assert not [word for word in known if unknown in pipe.tokenizer(word)["input_ids"]]


def test_the_card_holds_the_measured_figures():
    card, figures = (BUNDLED / "README.md").read_text(), json.loads((BUNDLED / "figures.json").read_text())
    best = figures["maps"][figures["best_block"]]
    assert (
        f"{best['class']:.3f}" in card and f"{figures['generation']['one_object']['recognised']:.3f}" in card
    )
    assert f"]({SHEET})" in card and (BUNDLED / SHEET).stat().st_size < 300_000
    for needed in ("CC-BY 4.0", "Apache-2.0", "Limits", "seed"):
        assert needed in card


@pytest.mark.slow
def test_it_draws_what_it_is_asked_for(pipe):
    asked = prompts(1, 6)
    drawn = [np.array(image) for image in generate(pipe, [text for text, _ in asked])]
    concepts = [concept for _, [concept] in asked]

    def recognised(names):
        pairs = zip(drawn, names, strict=True)
        return sum(recognition(picture, name) >= RECOGNISED for picture, name in pairs)

    assert recognised(concepts) >= 4
    assert recognised(concepts[3:] + concepts[:3]) <= 2, "what was asked for in another picture"


@pytest.mark.slow
def test_the_readme_keeps_its_word():
    readme = (BUNDLED.parents[2] / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", readme, re.S)
    here = {}
    exec(code, here)
    assert here["heat"].shape == (32, 32) and here["heat"].max() > here["heat"].min() >= 0
    assert here["image"].size == (128, 128)
    assert here["mask"].shape == (128, 128) and 0 < here["mask"].float().mean() < 1


@pytest.mark.slow
def test_the_settings_name_the_best_grid():
    """Of single grids; `workshop.measure.best_blocks` asks all classes, this three."""
    pipe = ov.load_pipeline(device="cpu")
    found = measure(pipe, ("cat", "car", "apple"))
    drawing = drawing_of("bundled")
    best = f"{drawing.best}×{drawing.best}"
    for asked in ("word", "token"):
        assert found[best, asked] > found["8×8", asked] + 0.05
    assert drawing.finest == pipe.unet.config.sample_size
    assert (drawing.steps, drawing.guidance) == (STEPS, GUIDANCE)
