"""Chapter 06: its method, its small tools and its open exercise."""

import numpy as np
import pytest
import torch
from PIL import Image

import ovamnb as ov
from ovamnb.course import cut_scenes
from ovamnb.course import images_it_did_not_make as chapter
from ovamnb.course.exercises import verdict_of
from ovamnb.emoji.streams import stream
from ovamnb.recipe import SEGMENT_RECIPES, SegmentRecipe
from ovamnb.segmentation import Segmentation, labels_of

OPEN = next(exercise for exercise in chapter.EXERCISES if exercise.name == "06.c")
PAPER = SEGMENT_RECIPES["paper"]


@pytest.fixture(scope="module")
def bundled():
    pipe = ov.load_pipeline("bundled")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def passes(h: int = 8, w: int = 12):
    return chapter._passes(torch.Generator().manual_seed(3), 2, h, w)


def test_labels_are_enlarged_in_blocks() -> None:
    labels = torch.tensor([[0, 1, 2], [2, 0, 1]])
    large = chapter.enlarged(labels, (4, 9))
    assert large.shape == (4, 9) and (large[0] == torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])).all()
    assert set(chapter.enlarged(labels, (5, 7)).unique().tolist()) == {0, 1, 2}


def test_a_class_is_completed_by_its_own_pass() -> None:
    heats, weights, affinity = passes()
    one = chapter.completed({times: each[1:] for times, each in heats.items()}, weights, affinity[1:])
    both = chapter.completed(heats, weights, affinity)
    assert both.shape == (2, 8, 12) and torch.allclose(one[0], both[1])


def test_yours_is_taken_as_soon_as_it_is_right(capsys) -> None:
    def right(*given):
        return chapter.segmented(*given)

    assert chapter.yours_or_ours(right) is right
    for other in (lambda *given: None, lambda *given: chapter.segmented(*given) + 1):
        assert chapter.yours_or_ours(other) is chapter.segmented
    assert capsys.readouterr().out.count("until yours is right") == 2


def test_changes_name_what_a_tuned_recipe_changes() -> None:
    tuned = SegmentRecipe(template="{}", article=True, together=True, blocks="up_blocks", samples=4)
    groups = cut_scenes.changes(tuned)
    assert groups["plain name"] == {"template": "{}", "article": True}
    taken = [field for fields in groups.values() for field in fields]
    assert len(taken) == len(set(taken)) and set(taken) == set(vars(tuned)) - {"samples", "background"}


def test_only_some_classes_are_kept_and_numbered_anew() -> None:
    result = Segmentation(torch.tensor([[0, 1, 2], [3, 3, 1]]), torch.zeros(3, 2, 3), ("a", "b", "c"), 0.5)
    assert cut_scenes.only(result, ["c", "a"]).tolist() == [[0, 2, 0], [1, 1, 2]]


def test_a_filter_is_held_against_the_scenes() -> None:
    scenes = stream("validation", 3, objects=2)
    truth = [{thing.concept for thing in each.objects} for each in scenes]
    half = iter([[sorted(names)[0]] for names in truth])
    assert cut_scenes.filter_quality(lambda *_: next(half), scenes) == (1, 0.5)
    assert cut_scenes.filter_quality(lambda image, names: names, scenes)[1] == 1
    assert cut_scenes.filter_quality(lambda *_: [], scenes) == (0, 0)


def test_the_figures_can_be_drawn() -> None:
    heats, weights, affinity = passes()
    image = Image.fromarray(np.zeros((16, 24, 3), np.uint8))
    labels = torch.zeros(16, 24, dtype=torch.int64)
    curve = {0.3: 0.6, 0.5: 0.7}
    for figure in (
        chapter.diagram(),
        cut_scenes.class_steps(image, ["dog", "car"], heats, weights, affinity),
        cut_scenes.side_by_side(image, {"one": labels, "other": labels + 1}, ["dog", "car"]),
        cut_scenes.by_colour(image, labels + 1, ["dog"]),
        cut_scenes.noise_film(torch.rand(2, 3, 8, 12), ["t = 0", "t = 100"]),
        cut_scenes.draw_ladder({"first": 0.6, "second": 0.7}),
        cut_scenes.line(curve, "β"),
        cut_scenes.draw_curves({"given": curve, "by filter": curve}, 0.4),
    ):
        figure.canvas.draw()


@pytest.mark.slow
class TestOnTheBundledModel:
    def test_the_passes_lead_to_what_segment_gives(self, bundled) -> None:
        picture = stream("test", 1, objects=2)[0]
        names = [thing.concept for thing in picture.objects]
        heats, affinity = cut_scenes.record_classes(bundled, Image.fromarray(picture.image), names, PAPER)
        assert affinity.shape[0] == 2 and affinity.shape[1] == heats[1][0].numel()
        mine = chapter.segmented(heats, PAPER.weights, affinity, 0.5)
        plain = PAPER.changed({"emphasis": 1.0, "latents": "mode", "minmax_at": "map"})
        theirs = ov.segment(bundled, picture.image, names, recipe=plain)
        assert (mine == labels_of(theirs.maps, 0.5)).float().mean() > 0.99

    def test_a_recipe_has_to_be_better_on_hidden_scenes(self, bundled) -> None:
        for constant in ({}, {"timesteps": 100}, {"background": 1.0}):
            assert verdict_of(OPEN, constant, pipe=bundled).right is False
        good = {"together": True, "template": "{}", "article": True, "background": 0.45}
        assert verdict_of(OPEN, good, pipe=bundled).right is True


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.5, "Give a dict"),
        ({"blocks": "up_blocks"}, "blocks: not here"),
        ({"timesteps": (5000.5,)}, "no recipe"),
        ({"template": 3}, "no recipe"),
    ],
)
def test_what_is_no_recipe_is_named_before_anything_is_cut(answer, said: str) -> None:
    verdict = verdict_of(OPEN, answer, pipe=None)
    assert verdict.right is False and said in verdict.text
