"""Chapter 08: its small tools, what it says of the stored sets, and its open exercise."""

import numpy as np
import pytest
import torch
from PIL import Image

from ovamnb.course import synthetic_pictures, synthetic_tables
from ovamnb.course.exercises import verdict_of
from ovamnb.course.labels_out_of_words import EXERCISES, diagram
from ovamnb.data.base import Example
from ovamnb.downstream.learn import score, train
from ovamnb.evaluation.metrics import mean_iou

BETTER = next(exercise for exercise in EXERCISES if exercise.name == "08.c")
CLASSES = ("apple", "cat")


def example(h: int = 12, w: int = 17) -> Example:
    labels = np.zeros((h, w), np.uint8)
    labels[4:8, 5:11], labels[0, 0] = 2, 255
    return Example("some", labels, Image.fromarray(np.zeros((h, w, 3), np.uint8)))


@pytest.mark.parametrize(("pixels", "shape"), [(1, (6, 8)), (0, (4, 6)), (-1, (2, 4))])
def test_labels_grow_and_shrink_on_all_sides(pixels: int, shape: tuple[int, int]) -> None:
    labels = synthetic_pictures.grown(example(), pixels).labels
    rows, columns = np.nonzero(labels)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == shape and set(labels[labels > 0].tolist()) == {2}
    assert (labels > 0).sum() == shape[0] * shape[1]


def test_rendered_scenes_hold_their_class_with_its_own_label() -> None:
    scenes = synthetic_pictures.rendered(CLASSES, 4)
    assert [set(np.unique(each.labels)) - {0} for each in scenes] == [{1}, {2}, {1}, {2}]
    again = synthetic_pictures.rendered(CLASSES, 4)
    assert all((one.labels == other.labels).all() for one, other in zip(scenes, again, strict=True))


def test_what_the_chapter_says_of_the_stored_sets() -> None:
    costs = synthetic_tables.costs()
    assert (
        max(costs, key=costs.get) == "objects" and abs(costs["masks"]) < 0.01 and abs(costs["words"]) < 0.02
    )
    assert [synthetic_tables.winner(k) for k in (25, 400)] == ["pairs + real", "real"]
    weak = synthetic_tables.passed("one object, an earlier and weaker model")["none"]
    assert weak["mask miou"] == pytest.approx(0.94, abs=0.005) and weak["miou"] < 0.5
    gains = synthetic_tables.gains(
        {"before": ("ours", "both", "earlier/scores.csv"), "now": ("ours", "both", "scores.csv")}
    )
    assert 0 < gains["now"][25] - gains["before"][25] < 0.02, "hardly grown"


def test_the_figures_can_be_drawn() -> None:
    several = [example()] * 5
    figures = [
        diagram(),
        synthetic_tables.curves(),
        synthetic_tables.suspects(),
        synthetic_tables.masks_and_labels([*synthetic_tables.SETS]),
        synthetic_pictures.label_sheet(several, columns=3),
        synthetic_pictures.from_map_to_label(
            several[0].image, {"map": torch.rand(12, 17)}, several[0].labels
        ),
    ]
    for figure in figures:
        figure.canvas.draw()


@pytest.mark.slow
def test_a_network_has_to_be_better_by_a_margin() -> None:
    test = synthetic_pictures.rendered(CLASSES, 8)
    network = train([test], CLASSES, steps=3, quiet=True)
    reached = mean_iou(score(network, test))
    said = [
        verdict_of(BETTER, network, test=test, baseline=baseline) for baseline in (reached - 0.06, reached)
    ]
    assert [verdict.right for verdict in said] == [True, False]
    for constant in (1.0, "a network", lambda image: image):
        assert verdict_of(BETTER, constant, test=test, baseline=0.0).right is False
