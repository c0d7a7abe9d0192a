"""Training runs, resumes, and says what it did; seconds, on a model of nothing."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline

from ovamnb.emoji import denoiser, scene, train
from ovamnb.emoji.classifier import Judge, presence
from ovamnb.emoji.text_encoder import assemble
from ovamnb.loop import fit, learning_rate_factor


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


def test_every_stage_runs_and_the_result_is_a_pipeline_with_a_record(tmp_path):
    known = sorted({word for seed in range(50) for word in scene(seed, size=(32, 32)).caption.split()})
    tokenizer, encoder = assemble(known, torch.randn(len(known), denoiser.TEXT_DIM))
    tokenizer.save_pretrained(tmp_path / "tokenizer")  # found there, the minute of distilling is spared
    encoder.save_pretrained(tmp_path / "text_encoder")
    train.main(["--plan", "smoke", "--out", str(tmp_path), "--device", "cpu", "--shard", "4MB"])
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    image = pipe("a cat", num_inference_steps=1, height=64, width=64, output_type="np").images
    assert image.shape == (1, 64, 64, 3)
    record = json.loads((tmp_path / "pipeline" / "training.json").read_text())
    assert record["unet"]["step"] == 4 and set(record["versions"]) >= {"torch", "diffusers"}
    assert len(list((tmp_path / "pipeline" / "unet").glob("*.safetensors"))) > 1


def test_weights_are_rounded_to_the_nearest_of_few_values():
    weight = torch.randn(4000, generator=torch.Generator().manual_seed(0)).half()
    near = train.rounded(weight)
    assert ((near - weight).float().abs() <= weight.float().abs() * 2**-7).all()
    assert (near.view(torch.int16) & 15 == 0).all() and torch.equal(train.rounded(near), near)
    assert train.rounded(torch.tensor([-1.0, 0.0, 3.0]).half()).tolist() == [-1, 0, 3]


def test_presence_and_judge_shapes():
    labels = torch.zeros(2, 6, 9, dtype=torch.uint8)
    labels[1, 2, 3] = 5
    assert presence(labels).sum() == 1 and presence(labels)[1, 4] == 1
    assert Judge().found(torch.zeros(2, 3, 64, 96)).shape == presence(labels).shape
