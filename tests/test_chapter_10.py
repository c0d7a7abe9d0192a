"""Chapter 10: its statistics, which word lies on which object, and its open exercise."""

import numpy as np
import pytest
import torch
from PIL import Image
from shared_fixtures import bundled_pipe

from ovamnb.course import failure_figures, mixed_up
from ovamnb.course.absent_words import STATISTICS, Answers, ask, auc, misled, table, threshold
from ovamnb.course.exercises import verdict_of
from ovamnb.course.where_it_goes_wrong import EXERCISES, diagram, verdict_shares
from ovamnb.emoji.sprites import CONCEPTS

WORDS, H, W = 5, 4, 6
BETTER = next(exercise for exercise in EXERCISES if exercise.name == "10.c")


def answers(scenes: int = 30) -> Answers:
    """Maps whose peaks say what is there best after the usual peak of each word is taken off."""
    generator = torch.Generator().manual_seed(3)
    present = torch.rand(scenes, WORDS, generator=generator) < 0.4
    peak = torch.arange(WORDS) * 0.8 + present + 0.2 * torch.rand(scenes, WORDS, generator=generator)
    alone = torch.zeros(scenes, WORDS, H, W)
    alone[..., 1, 2] = peak / 20
    return Answers([], present, alone, alone.clone())


def test_the_auc_counts_pairs_and_halves_ties() -> None:
    assert auc(torch.tensor([0.9, 0.5, 0.4]), torch.tensor([0.4, 0.1])) == pytest.approx(5.5 / 6)
    assert auc(torch.ones(3), torch.ones(4)) == 0.5 and auc(torch.zeros(3), torch.ones(4)) == 0


@pytest.mark.parametrize(
    ("alarms", "expected"), [(0.0, 9), (0.1, 8), (0.2, 7), (0.19, 8), (1.0, 0)], ids=lambda x: str(x)
)
def test_the_limit_keeps_its_promise_and_is_the_smallest_that_does(alarms: float, expected: int) -> None:
    assert threshold(torch.arange(10.0), alarms) == expected


def test_with_ties_at_the_top_no_more_than_allowed_exceed() -> None:
    values = torch.tensor([1.0, 3.0, 3.0, 3.0])
    assert threshold(values, 0.5) == 3 and threshold(values, 0.75) == 1


def test_a_verdict_is_counted_on_other_values() -> None:
    known, present, absent = torch.arange(10.0), torch.tensor([8.0, 9.0]), torch.tensor([0.0, 8.5, 9.5, 1.0])
    assert verdict_shares(known, present, absent, 0.1) == (0.5, 0.5)


def test_the_most_misleading_scene_is_found() -> None:
    seen = answers(4)
    seen.present[:] = False
    seen.present[:, 4] = True
    seen.alone[2, 1, 0, 0], seen.alone[2, 4] = 0.9, 0.01
    assert misled(seen) == (2, 4, 1)


def test_the_table_knows_both_ways_and_every_statistic() -> None:
    seen = answers()
    found = table(seen)
    assert len(found) == 2 * len(STATISTICS) and found["peak, alone"] == found["peak, together"]
    assert found["peak, alone"] == auc(*seen.split(seen.alone.amax(dim=(-2, -1))))


@pytest.mark.parametrize(
    ("statistic", "reached", "said"),
    [
        (lambda word, alone, together: float(alone[word].max() * 20 - 0.8 * word), True, "Reached"),
        (lambda word, alone, together: float(alone[word].max()), False, "usual for"),
        (lambda word, alone, together: 1.0, False, "the same for every word"),
        (lambda word, alone, together: float(-alone[word].max()), False, "bright in every picture"),
        (lambda word, alone, together: float("nan"), False, "not finite"),
        (lambda word, alone, together: ..., None, "Not written yet"),
    ],
)
def test_a_statistic_must_beat_the_simple_ones(statistic, reached: bool | None, said: str) -> None:
    verdict = verdict_of(BETTER, statistic, hidden=answers())
    assert verdict.right is reached and said in verdict.text, verdict.text


def test_a_word_is_dense_where_it_lies_however_large_the_object() -> None:
    masks = torch.zeros(2, H, W, dtype=torch.bool)
    masks[0, 0, 0], masks[1, 1:] = True, True
    maps = torch.full((2, H, W), 0.1)
    maps[0, 0, 0], maps[1, 1:] = 1.0, 0.5
    found = mixed_up.densest(maps, masks)
    assert found.argmax(dim=1).tolist() == [0, 1]
    assert found[0, 0] == pytest.approx(1 / float(maps[0].mean()))


def test_the_colour_is_that_under_the_mask() -> None:
    pixels = np.zeros((2 * H, 2 * W, 3), np.uint8)
    pixels[:, W:, 2] = 255
    masks = torch.zeros(2, H, W, dtype=torch.bool)
    masks[0, :, : W // 2], masks[1, :, W // 2 :] = True, True
    found = mixed_up.colour_of(Image.fromarray(pixels), masks)
    assert found.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_twins_are_two_of_a_kind_and_lie_apart() -> None:
    image, masks = mixed_up.twins(size=(96, 128))
    assert image.shape == (96, 128, 3) and masks.shape == (2, 96, 128)
    assert masks[0].any() and masks[1].any() and not masks[0, :, 64:].any() and not masks[1, :, :64].any()


def test_the_piece_under_the_click_or_the_nearest() -> None:
    heat = torch.zeros(H, W)
    heat[1, 1], heat[2, 4:], heat[0, 5] = 1.0, 0.9, 0.4
    assert mixed_up.piece_at(heat, (1, 1)).nonzero().tolist() == [[1, 1]]
    assert mixed_up.piece_at(heat, (3, 5)).nonzero().tolist() == [[2, 4], [2, 5]]
    masks = torch.stack([heat == 1.0, heat == 0.9])
    assert mixed_up.shares_on(heat, masks) == pytest.approx([1 / 2.8, 1.8 / 2.8], abs=1e-4)


def test_the_figures_can_be_drawn() -> None:
    image = Image.fromarray(np.zeros((H * 4, W * 4, 3), np.uint8))
    values, heat = torch.rand(9), torch.rand(H, W)
    masks = torch.zeros(2, H, W, dtype=torch.bool)
    masks[0, 0, 0], masks[1, 1:] = True, True
    figures = [
        diagram(),
        failure_figures.histograms({"peak": (values, values, 0.5), "mean": (values, values, 0.5)}),
        failure_figures.own_and_common(image, {"cat": heat, "dog": heat / 9}),
        failure_figures.token_bars(["start", "cat"], torch.stack([heat, heat])),
        failure_figures.pictures({"a": [image] * 3, "b": [image]}, {"a": ["x"] * 3, "b": ["y"]}),
        failure_figures.bound([image], [masks], ("red", "blue"), [torch.rand(2, 2)], ("car", "house")),
        failure_figures.of_a_click(image, heat, heat, masks[1], (1, 2)),
    ]
    for figure in figures:
        figure.canvas.draw()


def test_every_class_word_answers_for_a_scene() -> None:
    seen = ask(bundled_pipe(), "test", 1, 32)
    names = [CONCEPTS[k] for k in seen.present[0].nonzero().flatten().tolist()]
    assert sorted(names) == sorted(thing.concept for thing in seen.scenes[0].objects)
    assert seen.alone.shape == seen.together.shape == (1, len(CONCEPTS), 32, 32)
    assert float(seen.together.sum(dim=1).max()) <= 1.001, "shares of one softmax"
    assert (seen.together < seen.alone + 1e-3).float().mean() > 0.9, "more words compete"


def test_what_is_there_depends_on_the_caption_and_the_scenes_do_not() -> None:
    own, neutral = (ask(bundled_pipe(), "test", 1, 32, caption=caption) for caption in (None, "a photograph"))
    assert own.scenes[0].caption == neutral.scenes[0].caption and torch.equal(own.present, neutral.present)
    assert float((own.alone - neutral.alone).abs().max()) > 0.01
