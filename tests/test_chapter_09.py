"""Chapter 09: its figures, what it says of the stored measurement, and its exercises."""

import numpy as np
import pytest
import torch
from PIL import Image
from shared_fixtures import bundled_pipe

from ovamnb import intervene
from ovamnb.course import attention_as_a_cause as chapter
from ovamnb.course import changed_pictures
from ovamnb.course.exercises import verdict_of
from ovamnb.course.silencing_ideas import SILENCING
from ovamnb.course.silent_head import RIGHT, UNKNOWN, quiet, watch

EDIT = next(exercise for exercise in chapter.EXERCISES if exercise.name == "09.c")
WIDE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 17, 3), dtype=np.uint8))


def test_what_the_chapter_says_of_the_stored_measurement() -> None:
    swapped = changed_pictures.swapped()
    assert {way: round(new) for way, (new, _) in swapped.items()} == {
        "keys only": 0, "values only": 1, "both": 1,
    }  # fmt: skip
    assert swapped["keys only"][1] > swapped["values only"][1] + 0.1
    layouts = changed_pictures.layouts()
    assert layouts["kept"]["same"] > layouts["plain"]["same"] + 0.2
    assert 0.7 < layouts["kept"]["drawn"] < 1 == layouts["plain"]["drawn"], "sometimes it is not drawn"
    for row, (word, own, anything, what) in zip(
        changed_pictures.stored("weight"), changed_pictures.weightless(), strict=True
    ):
        assert word == row["word"] and what == "another object"
        assert own == row["own"][0] < changed_pictures.speck() <= row["any"][0] == anything
    before, after = (changed_pictures.all_found(when) for when in ("before", "after"))
    assert len(before) == len(after) == 20 and sum(after) <= sum(before), "no gain in the count"
    assert before[0] and before[7], "the two pictures of the chapter with a tail alone count as found"
    loss, share = changed_pictures.losses("after").T
    assert loss.shape == (3 * 20,) and loss.max() < 0.03 and (share < changed_pictures.speck()).sum() >= 5


def test_no_head_is_needed_and_one_self_attention_is() -> None:
    found = changed_pictures.silenced()
    alone = {
        (layer, head): iou for layer, each in found.items() for head, iou in each.items() if head.isdigit()
    }
    worst = min(alone, key=alone.get)
    assert worst[0] == next(iter(found)) and alone[worst] > 0.5, "one in the first layer matters most"
    finest = list(found)[-2]
    assert "32×32" in finest and found[finest]["self"] < 0.3 and found[finest]["all"] > 0.7


def test_without_a_word_there_is_its_object_another_or_none(monkeypatch) -> None:
    rows = [
        {"word": "cat", "own": [own], "any": [share]}
        for own, share in ((0.02, 0.02), (0.0, 0.02), (0.0, 0.0))
    ]
    monkeypatch.setattr(changed_pictures, "stored", lambda part: rows)
    found = [what for *_, what in changed_pictures.weightless()]
    assert found == ["the object", "another object", "nothing"]


def test_losses_are_of_the_first_and_the_last_look() -> None:
    row = changed_pictures.stored("forgotten")[0]
    first, last = (changed_pictures.losses(when)[:3] for when in ("before", "after"))
    assert first[:, 0].tolist() == row["losses"]["1"][0] and first[:, 1].tolist() == row["before"]
    assert last[:, 0].tolist() == row["losses"]["5"][-1] and last[:, 1].tolist() == row["after"]


def test_the_figures_can_be_drawn() -> None:
    figures = [
        chapter.diagram(),
        changed_pictures.one_by_one(),
        changed_pictures.where_it_stays(),
        changed_pictures.untouched(),
        changed_pictures.looked_at_and_drawn(),
        changed_pictures.sheet(
            {"one": [WIDE] * 2, "two": [WIDE] * 2}, ["a", "b", "map"], heat=torch.rand(3, 4)
        ),
        changed_pictures.sheet({"": [WIDE]}, ["a"]),
    ]
    for figure in figures:
        figure.canvas.draw()
    top, bottom = figures[-2].axes[2], figures[-2].axes[5]
    assert len(bottom.images) == 2 and not top.images, "the map lies over the first picture, in the last row"


class TestSilentHead:
    def test_it_is_what_the_package_does(self) -> None:
        for attn, head, run in SILENCING.cases(torch.Generator().manual_seed(0)):
            assert watch(quiet, attn, head, run) == RIGHT

    @pytest.mark.parametrize("constant", [0, "a cat", torch.zeros(2, 6, 5)])
    def test_an_answer_that_draws_nothing_is_wrong(self, constant) -> None:
        assert verdict_of(SILENCING, lambda *_: constant).right is False

    def test_something_else_is_not_taken_for_a_known_idea(self) -> None:
        def doubled(attn, head, run):
            with attn.to_out[0].register_forward_pre_hook(lambda module, inputs: inputs[0] * 2):
                return run()

        [case, _] = SILENCING.cases(torch.Generator().manual_seed(0))
        assert watch(doubled, *case) == UNKNOWN
        assert verdict_of(SILENCING, doubled).text.startswith("Not right yet")

    def test_nothing_is_left_for_the_next_check(self) -> None:
        def leaving(attn, head, run):
            attn.to_out[0].register_forward_pre_hook(lambda module, inputs: inputs[0] * 0)
            return run()

        [(attn, head, run), _] = SILENCING.cases(torch.Generator().manual_seed(0))
        watch(leaving, attn, head, run)
        assert not attn.to_out[0]._forward_pre_hooks and watch(quiet, attn, head, run) == RIGHT


@pytest.mark.parametrize("junk", ["a house", 1.0, np.zeros((3, 3))])
def test_what_is_no_picture_of_that_size_is_no_edit(junk) -> None:
    assert verdict_of(EDIT, junk, before=WIDE, pipe=None).right is False


@pytest.mark.slow
def test_an_edit_keeps_the_car_and_changes_the_cat() -> None:
    pipe = bundled_pipe()
    cat = "a photograph of a cat and a car on grass"
    house = cat.replace("cat", "house")

    def draw(prompts):
        noise = intervene.twins(1, len(prompts))
        return pipe(prompts, num_inference_steps=25, guidance_scale=4.0, generator=noise).images

    before, anew = draw([cat, house])
    with intervene.keep_layout(pipe, cat, house, cross=1.0, self_attention=0.8):
        _, edited = draw([cat, house])
    blank = Image.new("RGB", before.size, (70, 140, 60))
    said = {
        name: verdict_of(EDIT, picture, before=before, pipe=pipe)
        for name, picture in {"edited": edited, "before": before, "anew": anew, "blank": blank}.items()
    }
    assert {name: verdict.right for name, verdict in said.items()} == {
        "edited": True, "before": False, "anew": False, "blank": False,
    }  # fmt: skip
    assert "hardly a house" in said["before"].text and "Reach 0.85" in said["anew"].text
