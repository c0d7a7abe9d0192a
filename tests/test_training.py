"""Training runs, resumes exactly, and says what it did; seconds, on models of nothing."""

import itertools
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from shared_fixtures import server
from transformers import AutoTokenizer, CLIPTextModel

from ovamnb.downstream import fit as loop
from ovamnb.downstream.fit import fit, learning_rate_factor, step_seed
from ovamnb.emoji import scene
from workshop.measure import generation
from workshop.train import autoencoder, denoiser, stages
from workshop.train import model as train
from workshop.train.latents import Latents, token_ids
from workshop.train.stages import STAGES
from workshop.train.text_table import assemble


def line(folder, steps, *, stop_at=None):
    """Fits y = w·x; the batches depend on the step alone."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)

    def batches(start):
        for step in range(start, steps):
            if step == stop_at:
                raise KeyboardInterrupt
            generator = torch.Generator().manual_seed(step)
            yield torch.randn(8, 3, generator=generator)

    def loss(x):
        return (module(x) - x.sum(1, keepdim=True)).square().mean()

    run = fit("line", module, loss, batches, steps=steps, learning_rate=0.1, folder=folder, every=0)
    return module, run


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, _ = line(tmp_path / "whole", 40)
    with pytest.raises(KeyboardInterrupt):
        line(tmp_path / "parts", 40, stop_at=17)
    resumed, run = line(tmp_path / "parts", 40)
    assert run.step == 40
    assert torch.equal(whole.weight, resumed.weight)


def noisy(folder, steps, *, stop_at=None):
    """Fits a convolution, laid out channels last, with noise from the global stream in batches and loss."""
    torch.manual_seed(0)
    module = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)

    def batches(start):
        for step in range(start, steps):
            if step == stop_at:
                raise KeyboardInterrupt
            yield torch.randn(2, 3, 5, 5)

    def loss(x):
        return (module(x) - torch.rand(2, 4, 3, 3)).square().mean()

    run = fit("conv", module, loss, batches, steps=steps, learning_rate=0.1, folder=folder, seed=3, every=0)
    return module, run


def test_a_resumed_run_deals_the_same_noise_and_leaves_its_callers_alone(tmp_path):
    whole, _ = noisy(tmp_path / "whole", 20)
    after = torch.rand(())
    with pytest.raises(KeyboardInterrupt):
        noisy(tmp_path / "parts", 20, stop_at=9)
    torch.rand(5)  # another process has drawn otherwise until now
    resumed, _ = noisy(tmp_path / "parts", 20)
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)
    torch.manual_seed(0)
    torch.nn.Conv2d(3, 4, 3)
    assert torch.rand(()) == after
    assert len({step_seed(seed, step) for seed in range(9) for step in range(99)}) == 9 * 99


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        line(tmp_path, 20, stop_at=5)
    before = (tmp_path / "line.safetensors").read_bytes()
    monkeypatch.setattr(loop, "save_file", full)
    with pytest.raises(OSError, match=r"step 6 .*No space left.*make room.*the one before it is whole"):
        line(tmp_path, 20)
    assert [file.name for file in tmp_path.iterdir()] == ["line.safetensors"]
    assert (tmp_path / "line.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    module = torch.nn.Linear(1, 1)

    def loss(_):
        return module.weight.sum() * float("nan")

    with pytest.raises(FloatingPointError, match="start again from"):
        fit(
            "bad", module, loss, lambda s: [torch.zeros(1)] * 20, steps=20, learning_rate=0.1, folder=tmp_path
        )


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    line(tmp_path, 2)
    other = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    with pytest.raises(ValueError, match="another folder, or delete it"):
        fit(
            "line", other, lambda x: other(x).sum(), lambda s: (), steps=3, learning_rate=0.1, folder=tmp_path
        )


def test_the_learning_rate_warms_up_stays_and_falls_to_zero():
    factors = [learning_rate_factor(step, 2000) for step in (0, 299, 1000, 1499, 1750, 1999)]
    assert factors[0] < 0.01 and factors[1:4] == [1, 1, 1] and 0.4 < factors[4] < 0.6 and factors[5] < 0.01


def words_only(folder):
    """Tokenizer and text encoder with random vectors, where a run finds them: distilling takes a minute."""
    known = sorted({word for seed in range(50) for word in scene(seed, size=(32, 32)).caption.split()})
    tokenizer, encoder = assemble(known, torch.randn(len(known), denoiser.TEXT_DIM))
    tokenizer.save_pretrained(folder / "tokenizer")
    encoder.save_pretrained(folder / "text_encoder")


@pytest.mark.slow
def test_every_stage_runs_and_the_result_is_a_pipeline_with_a_record(tmp_path, monkeypatch):
    words_only(tmp_path)
    monkeypatch.setattr(train, "held_out_images", lambda count, seed: torch.rand(2, 3, 64, 64))
    train.main(["--plan", "smoke", "--out", str(tmp_path), "--device", "cpu", "--shard", "4MB"])
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    image = pipe("a cat", num_inference_steps=1, height=64, width=64, output_type="np").images
    assert image.shape == (1, 64, 64, 3)
    record = json.loads((tmp_path / "pipeline" / "training.json").read_text())
    assert record["unet"]["step"] == 4 and set(record["versions"]) >= {"torch", "diffusers"}
    assert record["plan"]["full_steps"] == 1
    assert len(list((tmp_path / "pipeline" / "unet").glob("*.safetensors"))) > 1


def in_small(monkeypatch):
    """Small networks, and of each stage few scenes."""
    monkeypatch.setattr(autoencoder, "CHANNELS", (16, 16, 16))
    build = denoiser.build_unet
    monkeypatch.setattr(denoiser, "build_unet", lambda: build((16, 16, 32)))
    monkeypatch.setattr(stages, "STAGES", {name: replace(s, pool=6) for name, s in STAGES.items()})
    monkeypatch.setattr(train, "held_out_images", lambda count, seed: torch.ones(2, 3, 64, 64).tril())


@pytest.mark.slow
def test_a_run_that_the_clock_stops_goes_on_to_the_same_end(tmp_path, monkeypatch, capsys):
    in_small(monkeypatch)

    def main(name, *more):
        steps = ["--small-steps", "2", "--middle-steps", "0", "--full-steps", "0"]
        train.main(["--plan", "smoke", *steps, "--device", "cpu", "--out", str(tmp_path / name), *more])

    for name in ("whole", "parts"):
        torch.manual_seed(0)
        words_only(tmp_path / name)
    main("whole")
    for stopped in ("VAE: stopped after step 1 of 2", "UNet: stopped after step 1 of 2"):
        main("parts", "--minutes", "0")
        assert stopped in capsys.readouterr().out and not (tmp_path / "parts" / "pipeline").exists()
    drawn = []
    monkeypatch.setattr(generation, "main", drawn.extend)
    main("parts", "--minutes", "0", "--sheet", str(tmp_path / "sheet.png"))
    assert drawn[0] == str(tmp_path / "parts" / "pipeline") and drawn[-1] == str(tmp_path / "sheet.png")
    for name in ("vae.safetensors", "unet.safetensors"):
        whole, parts = (load_file(tmp_path / run / name) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
def test_vae_and_unet_killed_and_resumed_are_those_of_an_unbroken_run(tmp_path, monkeypatch):
    """Through all stages, on small networks; the kill comes between two checkpoints."""
    words_only(tmp_path)
    in_small(monkeypatch)
    plan = train.Schedule(5, 2, 2, 3, 2, 1, 2, 1, 2, 1e-3)
    device = torch.device("cpu")

    def run(folder):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(tmp_path / "text_encoder")
        vae, _ = train.train_vae(plan, folder, device, every=0)
        return vae, train.train_unet(plan, folder, device, vae, tokenizer, encoder, every=0)[0]

    def killed(folder, step):
        """Runs until it should save this step, counted from where it begins."""
        saves, save = itertools.count(1), loop._save

        def dying(*arguments):
            if next(saves) == step:
                raise KeyboardInterrupt
            save(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "_save", dying)
            run(folder)

    whole = run(tmp_path / "whole")
    killed(tmp_path / "parts", 4)  # in the VAE's fourth step
    killed(tmp_path / "parts", 4)  # in the UNet's second, after two more of the VAE
    killed(tmp_path / "parts", 4)  # in its fifth, at 128×128
    resumed = run(tmp_path / "parts")
    for one, other in zip(whole, resumed, strict=True):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_batches_of_latents_slide_along_the_scenes():
    encoded = []

    def encode(images):
        encoded.append(float(images.sum()))
        return images[:, :, ::4, ::4]

    stage = replace(STAGES["small"], pool=20)
    make = {"encode": encode, "tokenize": lambda caption: torch.tensor([len(caption)])}
    row = Latents(stage, 0, 8, **make)
    numbers = [row.scenes(i) for i in range(40)]
    assert all(set(n[:2]) == {20 + 2 * i, 21 + 2 * i} for i, n in enumerate(numbers))
    assert all((n[2:] >= 2 * i).all() and (n[2:] < 20 + 2 * i).all() for i, n in enumerate(numbers))
    batches = [row[i] for i in range(40)]
    assert len(encoded) == len(set(encoded)) == len(set(np.concatenate(numbers)))  # each scene once
    for i in (7, 39):  # a resumed run, its memory empty
        latents, tokens = Latents(stage, 0, 8, **make)[i]
        assert torch.equal(latents, batches[i][0]) and torch.equal(tokens, batches[i][1])
    other = Latents(stage, 1, 8, **make)[7][0]
    assert not torch.equal(other, batches[7][0])


@pytest.mark.slow
def test_scenes_that_workers_render_are_those_of_a_run_without(tmp_path):
    server()  # that forks them has the imports which other tests count on
    words_only(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    code = torch.nn.Conv2d(3, 4, 4, stride=4).requires_grad_(False)
    stage = replace(STAGES["small"], pool=90)  # more than a chunk is lacking at first
    make = {"encode": code, "tokenize": partial(token_ids, tokenizer), "seed": 5}
    alone, helped = Latents(stage, 1, 80, **make), Latents(stage, 1, 80, **make, workers=2)
    own = [alone[i] for i in range(4)]
    given = [*helped.batches(range(3)), *helped.batches(range(3, 4))]  # one that stops and goes on
    given += Latents(stage, 1, 80, **make, workers=1).batches(range(3, 4))  # and one whose memory is empty
    for (latents, tokens), (own_latents, own_tokens) in zip(given, [*own, own[3]], strict=True):
        torch.testing.assert_close(latents, own_latents, atol=2e-3, rtol=2e-3)  # float16's last bits
        assert torch.equal(tokens, own_tokens)
    assert (helped.held == alone.held).all()


def test_weights_are_rounded_to_the_nearest_of_few_values():
    weight = torch.randn(4000, generator=torch.Generator().manual_seed(0)).half()
    near = train.rounded(weight)
    assert ((near - weight).float().abs() <= weight.float().abs() * 2**-7).all()
    assert (near.view(torch.int16) & 15 == 0).all() and torch.equal(train.rounded(near), near)
    assert train.rounded(torch.tensor([-1.0, 0.0, 3.0]).half()).tolist() == [-1, 0, 3]
