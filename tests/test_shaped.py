"""The package on pipelines of the shapes of Stable Diffusion 1.5, 2.1 and XL; every chapter on them, nightly:
`python tests/play.py --model sd15`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import shaped
import torch

import ovamnb as ov
from ovamnb.models import drawing_of
from ovamnb.unet import attention_grids

if shaped.wheel() is None and not os.environ.get("CI"):  # there it has to be
    pytest.skip("CLIP's merges are not here: `make` fetches them", allow_module_level=True)

SIDES = {"sd15": 16, "sd21": 24, "sdxl": 16}  # of latents, small for speed; the grids' proportions stay


@pytest.fixture(scope="module", params=shaped.SHAPES)
def folder(request, tmp_path_factory):
    return shaped.save(request.param, tmp_path_factory.mktemp(request.param), SIDES[request.param])


@pytest.fixture(scope="module")
def pipe(folder):
    pipe = ov.load_pipeline(folder, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def drawn(pipe):
    """A picture, not square, and its recording."""
    grid = attention_grids(pipe.unet, (16, 24))[0]
    with ov.record(pipe, queries="both", self_attention=(grid,), dtype=torch.float32) as trace:
        image = pipe("a cat and a car on grass", height=128, width=192, num_inference_steps=3).images[0]
    return image, trace


def test_the_tokenizer_is_clips():
    ids = shaped.tokenizer()("a photo of a cat")["input_ids"]
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert shaped.tokenizer("!").pad_token_id == 0


def test_settings_come_from_the_folder(folder, pipe, capsys):
    settings = ov.setup_notebook(model=folder)
    assert f"model: {folder} · device" in capsys.readouterr().out
    side = pipe.unet.config.sample_size
    finest = max(attention_grids(pipe.unet)[0])
    assert (settings.size, settings.finest) == ((8 * side, 8 * side), finest)
    assert (finest < side) == ("XL" in type(pipe).__name__)
    assert settings.steps == 4 and settings.few == (1, 3) and not settings.bundled
    settings.claim(False, "the sun is cold")
    settings.claim(True, "two is even")
    assert not settings.only_bundled("the tokens")
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "not so with this model: the sun is cold",
        "so it is with this model: two is even",
        "skipped, since it belongs to the bundled model alone: the tokens",
    ]


def test_any_word_has_a_map(drawn):
    _, trace = drawn
    maps = trace.maps("a photograph of giraffes, an umbrella and a kitten on grass")
    assert maps["giraffes"].shape == attention_shape(trace)
    torch.testing.assert_close(maps.share.values.sum(dim=0), torch.ones(attention_shape(trace)))
    assert len(trace.text_encoder.encode("giraffes").states) > 3, "CLIP has no token of this word alone"
    for half in ("conditional", "unconditional"):
        assert trace.maps("a cat", queries=half).values.isfinite().all()


def test_an_accent_is_found_however_it_was_typed(drawn):
    _, trace = drawn
    composed, taken_apart = "caf\u00e9", "cafe\u0301"
    maps = [trace.maps(f"a {word} and a cat") for word in (composed, taken_apart)]
    assert torch.equal(maps[0].values, maps[1].values)
    assert torch.equal(maps[0][taken_apart], maps[1][composed])


def attention_shape(trace):
    return max(block.grid for name, block in trace.blocks.items() if "mid" not in name)


def test_every_pass_is_recorded(pipe, drawn):
    """PNDM runs the UNet once more than there are steps."""
    _, trace = drawn
    extra = type(pipe.scheduler).__name__ == "PNDMScheduler"
    assert len(trace.steps) == trace.passes == 3 + extra


def test_from_the_map_to_a_mask_and_a_token(pipe, drawn, tmp_path):
    image, trace = drawn
    grid = attention_shape(trace)
    fine = ov.complete(trace.maps("a cat")["cat"], trace.self_attention(grid))
    mask = ov.binarize(ov.resize(fine, image))
    assert mask.shape == (128, 192) and 0 < mask.float().mean() < 1
    token = ov.optimize_token(trace, mask, init="cat", evaluations=4)
    token.save(tmp_path / "cat.safetensors")
    assert torch.equal(ov.Token.load(tmp_path / "cat.safetensors").class_, token.class_)
    assert trace.maps(token)["cat"].isfinite().all()
    trace.save(tmp_path / "trace.safetensors")
    again = ov.Trace.load(tmp_path / "trace.safetensors", pipe)
    assert torch.equal(again.maps("a kitten").values, trace.maps("a kitten").values)


def test_a_given_picture_is_segmented(pipe, drawn):
    image, _ = drawn
    result = ov.segment(pipe, image, ["cat", "fire hydrant"], samples=1)
    assert result.labels.shape == (128, 192) and set(result.labels.flatten().tolist()) <= {0, 1, 2}
    with pytest.raises(ValueError, match="text states have dim"):
        ov.segment(pipe, image, [ov.load_tokens()["cat"]])


def test_the_bundled_tokens_are_refused(drawn):
    _, trace = drawn
    with pytest.raises(ValueError, match="made for another model"):
        trace.maps(ov.load_tokens()["cat"])


def test_the_known_models_grids_are_those_of_their_shape():
    """The table of `ovamnb.models` against pipelines of these shapes, at their own sizes."""
    for name, side in {"sd15": 64, "sd21": 96, "sdxl": 128}.items():
        drawing = drawing_of(name)
        assert drawing.size == (8 * side, 8 * side)
        assert drawing.finest == (side // 2 if name == "sdxl" else side)
        assert drawing.few[-1] < drawing.steps


@pytest.mark.slow
def test_a_chapter_plays_on_it(tmp_path):
    """The first chapter, at a small size; all of them at the shapes' own sizes: nightly."""
    folder = shaped.save("sd15", tmp_path / "sd15", 16)
    play = Path(__file__).with_name("play.py")
    done = subprocess.run(
        [sys.executable, str(play), "00", "01", "--model", str(folder)], capture_output=True, text=True
    )
    assert not done.returncode, done.stdout + done.stderr[-1000:]
