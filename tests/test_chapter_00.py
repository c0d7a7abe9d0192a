"""Chapter 00: its masks belong to its pictures, and its open exercises cannot be talked round."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ovamnb as ov
from ovamnb.course import course_map, first_pictures, start_here
from ovamnb.course.exercises import verdict_of

OPEN = {exercise.name: exercise for exercise in start_here.EXERCISES}


def picture_of(seed: int) -> Image.Image:
    """A picture with the thumbnail of the one that was labelled."""
    import json

    index = json.loads((first_pictures.FOLDER / "first_masks.json").read_text())
    colours = np.array(index["thumbnails"][str(seed)], np.uint8).reshape(4, 4, 3)
    return Image.fromarray(colours).resize((128, 128), Image.Resampling.NEAREST)


class TestMasks:
    def test_of_each_picture_hold_cat_car_and_grass(self):
        for seed in first_pictures.SEEDS:
            masks = first_pictures.masks(picture_of(seed), seed)
            areas = {name: int(mask.sum()) for name, mask in masks.items()}
            assert set(areas) == {"cat", "car", "grass"}
            assert min(areas["cat"], areas["car"]) > 500 and areas["grass"] > 10_000, (seed, areas)
            assert (sum(mask.int() for mask in masks.values()) <= 1).all()

    def test_of_another_picture_are_not_known(self):
        assert first_pictures.masks(picture_of(0), 19) is None
        assert first_pictures.masks(picture_of(0), 1234) is None
        assert first_pictures.masks(picture_of(19).resize((64, 64)), 19) is None

    @pytest.mark.slow
    def test_lie_on_the_picture_that_the_model_draws(self):
        pipe = ov.load_pipeline(device="cpu")
        pipe.set_progress_bar_config(disable=True)
        [image] = pipe(
            first_pictures.PROMPT,
            num_inference_steps=25,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(19),
        ).images
        masks = first_pictures.masks(image, 19)
        pixels = torch.from_numpy(np.asarray(image).copy()).float()
        red, green, _ = pixels[masks["cat"]].mean(dim=0)
        assert red > green + 40  # an orange cat
        red, green, _ = pixels[masks["grass"]].mean(dim=0)
        assert green > red + 20


def test_means_are_taken_over_the_mask_alone():
    heat = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    left = torch.zeros(8, 8, dtype=torch.bool)
    left[:2, :2] = True
    means = first_pictures.means_on(heat, {"corner": left, "rest": ~left})
    assert means["corner"] == pytest.approx(1.0) and means["rest"] < 0.25
    with pytest.raises(ValueError, match="no pixel of nothing"):
        first_pictures.means_on(heat, {"nothing": torch.zeros(8, 8, dtype=torch.bool)})


def test_what_the_chapter_shows_is_what_the_card_measured():
    block = start_here.best_block(SimpleNamespace(bundled=True))
    assert start_here.card()["best_block"].startswith(f"{block}.")
    assert start_here.best_block(SimpleNamespace(bundled=False, best=16)) == 16
    table = start_here.measured()
    for row in table.values():
        assert row["class word"] > row["held-out word"] > row["wrong word"]
    assert start_here.draw_measured().axes[0].get_legend() is not None


def test_the_map_names_every_chapter_but_this_one():
    words = {text.get_text() for text in course_map.diagram().axes[0].texts}
    assert {f"{number:02d}" for number in range(1, 11)} <= words


MASKS = {
    "cat": torch.tensor([[1, 0, 0], [0, 0, 0]]).bool(),
    "car": torch.tensor([[0, 1, 0], [0, 0, 0]]).bool(),
    "grass": torch.tensor([[0, 0, 1], [1, 1, 1]]).bool(),
}
LIES = {
    "truck": (0.1, 0.5, 0.1),
    "moped": (0.3, 0.4, 0.1),
    "metal": (0.4, 0.1, 0.1),
    "tiger": (0.6, 0.1, 0.1),
}
LIES |= dict.fromkeys(("orange", "dress", "hat"), (0.6, 0.1, 0.1)) | {"flat": (0.3, 0.3, 0.3)}
NEAR_CAT = {"cat": 1.0, "tiger": 0.6}


class FakeTrace:
    """Maps and vectors as LIES and NEAR_CAT have them."""

    def maps(self, text: str, blocks=None) -> SimpleNamespace:
        word = text.split()[-1]
        heat = sum(value * mask for value, mask in zip(LIES[word], MASKS.values(), strict=True))
        return SimpleNamespace(share={word: heat})

    def text_of(self, word: str) -> SimpleNamespace:
        near = NEAR_CAT.get(word, 0.0)
        vector = torch.tensor([near, (1 - near**2) ** 0.5, 0.0]) * (word not in start_here.ORDINARY)
        return SimpleNamespace(states=torch.stack([torch.ones(3), vector, torch.ones(3)]))


GIVEN = {"trace": FakeTrace(), "masks": MASKS, "block": None}


class TestAWordThatFindsTheCar:
    @pytest.mark.parametrize(
        ("word", "right", "said"),
        [
            ("truck", True, "lies on the car: 0.10 on the cat, 0.50 on the car"),
            ("Truck ", True, "lies on the car"),
            ("moped", False, "hardly more than on the cat"),
            ("metal", False, "lies on the cat"),
            ("flat", False, "lies on the"),
            ("car", False, "excluded"),
        ],
    )
    def test_is_judged_by_the_masks(self, word, right, said):
        verdict = verdict_of(OPEN["00.a"], word, **GIVEN)
        assert verdict.right is right and said in verdict.text

    def test_cannot_be_judged_without_masks(self):
        assert verdict_of(OPEN["00.a"], "truck", **GIVEN | {"masks": None}).right is False


class TestStrangers:
    def test_three_are_enough(self):
        assert verdict_of(OPEN["00.c"], ["orange", "dress", "hat"], **GIVEN).right

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["orange", "dress"], "2 of 3"),
            (["orange", "orange", "orange"], "1 of 3"),
            (["tiger", "orange", "dress"], "too near to cat"),
            (["flat", "orange", "dress"], "does not lie on the cat"),
            ("orange", "1 of 3"),
        ],
    )
    def test_fewer_and_false_ones_are_not(self, words, said):
        verdict = verdict_of(OPEN["00.c"], words, **GIVEN)
        assert verdict.right is False and said in verdict.text
