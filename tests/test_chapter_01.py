"""Chapter 01: its step is DDIM's, its measures measure, and its open exercise looks at the pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import ovamnb as ov
from ovamnb.course import a_diffusion_model as chapter
from ovamnb.course import denoising_films
from ovamnb.course.exercises import verdict_of
from ovamnb.evaluation.metrics import confusion
from ovamnb.evaluation.metrics import iou as iou_of
from ovamnb.models import BUNDLED

OPEN = {exercise.name: exercise for exercise in chapter.EXERCISES}


@pytest.fixture(scope="module")
def pipe():
    pipe = ov.load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scheduler(**changes) -> DDIMScheduler:
    return DDIMScheduler.from_config(DDIMScheduler.load_config(BUNDLED / "scheduler"), **changes)


class TestStep:
    def test_takes_the_times_of_ddim(self):
        theirs = scheduler()
        theirs.set_timesteps(25)
        assert chapter.times(25) == theirs.timesteps.tolist()

    @pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
    def test_is_the_one_of_diffusers_whatever_is_predicted(self, kind):
        theirs = scheduler(prediction_type=kind)
        theirs.set_timesteps(25)
        noisy, prediction = torch.randn(2, 1, 4, 5, 3, generator=torch.Generator().manual_seed(3))
        velocity = chapter.as_velocity(SimpleNamespace(scheduler=theirs), prediction, noisy, 521)
        mine = chapter.ddim_step(noisy, velocity, theirs.alphas_cumprod[521], theirs.alphas_cumprod[481])
        torch.testing.assert_close(
            mine, theirs.step(prediction, 521, noisy).prev_sample, atol=1e-4, rtol=1e-4
        )

    def test_of_the_reader_is_taken_only_if_it_is_right(self, capsys):
        def mine(*given):
            return chapter.ddim_step(*given)

        assert chapter.yours_or_ours(mine) is mine
        assert chapter.yours_or_ours(lambda *given: given[0]) is chapter.ddim_step
        assert chapter.yours_or_ours(lambda *given: ...) is chapter.ddim_step
        assert "until yours is right" in capsys.readouterr().out


class TestMeasures:
    def test_settled_is_the_first_frame_that_looks_like_the_last(self):
        generator = torch.Generator().manual_seed(0)
        last, noise = torch.rand(2, 3, 32, 24, generator=generator)
        frames = torch.stack([noise, noise, last + 0.01 * noise, last])
        assert chapter.settled(frames) == 2

    def test_a_constant_shift_does_not_unsettle(self):
        last = torch.rand(3, 32, 24, generator=torch.Generator().manual_seed(1))
        assert chapter.settled(torch.stack([last + 0.2, last])) == 0

    def test_detail_falls_with_blur_and_rises_with_noise(self):
        generator = torch.Generator().manual_seed(2)
        picture = torch.rand(3, 16, 16, generator=generator).repeat_interleave(2, -1).repeat_interleave(2, -2)
        blur = torch.nn.functional.avg_pool2d(picture[None], 5, 1, 2)[0]
        noisy = picture + torch.randn(picture.shape, generator=generator)
        assert chapter.detail(blur) < chapter.detail(picture) < chapter.detail(noisy)

    def test_iou_is_that_of_the_evaluation(self):
        mask, truth = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(4)) < 0.4
        theirs = iou_of(confusion(mask.int(), truth.int(), 1))[1]
        assert chapter.iou(mask, truth) == pytest.approx(float(theirs))
        nothing = torch.zeros(3, 4, dtype=torch.bool)
        assert np.isnan(chapter.iou(nothing, nothing)) and chapter.iou(nothing, ~nothing) == 0


class TestFilms:
    def test_decode_gives_pictures(self, pipe):
        pictures = denoising_films.decode(pipe, torch.randn(2, 4, 8, 16))
        assert pictures.shape == (2, 3, 32, 64) and 0 <= pictures.min() <= pictures.max() <= 1

    def test_passes_are_counted_and_the_hook_is_gone(self, pipe):
        states = torch.zeros(2, 5, pipe.unet.config.cross_attention_dim)
        with chapter.counting(pipe) as passes, torch.no_grad():
            pipe.unet(torch.zeros(2, 4, 16, 16), 10, encoder_hidden_states=states)
        assert passes == [2] and not pipe.unet._forward_hooks

    def test_figures_are_drawn(self):
        masks = {"one": (torch.zeros(4, 5).bool(), torch.ones(4, 5).bool())}
        assert denoising_films.draw_small_masks(masks).axes
        assert len(denoising_films.film({"a": torch.rand(2, 3, 8, 8)}, ["x", "y"]).axes) == 2
        assert {"UNet (4)"} <= {text.get_text() for text in denoising_films.diagram().axes[0].texts}


def mix(without, cat, car):
    left = torch.zeros_like(without)
    left[..., : without.shape[-1] // 2] = 1
    return without + 4 * (left * (cat - without) + (1 - left) * (car - without))


class TestTwoPrompts:
    SETTINGS = SimpleNamespace(bundled=True)

    def judged(self, answer, pipe):
        return verdict_of(OPEN["01.c"], answer, pipe=pipe, settings=self.SETTINGS)

    def test_not_written_yet(self, pipe):
        assert self.judged(lambda *given: None, pipe).right is None
        assert self.judged(lambda *given: ..., pipe).right is None

    def test_of_another_shape(self, pipe):
        assert "same shape" in self.judged(lambda without, cat, car: cat[0], pipe).text

    def test_an_error_is_the_readers(self, pipe):
        def wrong(without, cat, car):
            return without + cat[..., :3]

        assert "Your function stopped" in self.judged(wrong, pipe).text

    @pytest.mark.slow
    def test_the_solution_is_right(self, pipe):
        assert self.judged(mix, pipe).right

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "wrong",
        [
            lambda without, cat, car: torch.zeros_like(without),
            lambda without, cat, car: without + 4 * (cat - without),
            lambda without, cat, car: without + 2 * (cat - without) + 2 * (car - without),
            lambda without, cat, car: mix(without, car, cat),
        ],
        ids=["constant", "cat alone", "both everywhere", "sides exchanged"],
    )
    def test_other_mixtures_are_not(self, pipe, wrong):
        assert self.judged(wrong, pipe).right is False
