"""Chapter 04: its open exercises, its measurements and its figures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from shared_fixtures import bundled_pipe

import ovamnb as ov
from ovamnb.course import completing, completion_figures, what_belongs_together
from ovamnb.course.completing import Click, Seen, best_disc, by_class, click_iou, disc, leak, miou
from ovamnb.course.exercises import verdict_of

BY_HAND, FROM_NOTHING, ONE_CLICK = what_belongs_together.EXERCISES


class TestRandomWalk:
    @pytest.mark.parametrize(
        "answer", [[0.35, 0.22, 0.08], torch.tensor([0.35, 0.22, 0.08]), (0.35, 0.22, 0.08)]
    )
    def test_two_rounds(self, answer) -> None:
        assert verdict_of(BY_HAND, answer).right

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            ([0.5, 0.2, 0.0], "one round"),
            ([0.25, 0.04, 0.0], "squared"),
            ([0.35, 0.55, 0.1], "columns"),
            ([1 / 3] * 3, "Not yet"),
            ([0.0] * 3, "Not yet"),
            (0.35, "Three numbers"),
            ("cat", "Three numbers"),
            ([0.35, None, 0.08], "Three numbers"),
        ],
    )
    def test_a_wrong_idea_gets_its_name(self, answer, says: str) -> None:
        verdict = verdict_of(BY_HAND, answer)
        assert verdict.right is False and says in verdict.text


def test_completion_by_another_way_is_right() -> None:
    """The powers of A as a matrix product, one image and one head at a time."""

    def another(query, key, heat, heads, scale, power):
        done = []
        for q, k, one in zip(query, key, heat, strict=True):
            pairs = zip(q.chunk(heads, -1), k.chunk(heads, -1), strict=True)
            affinity = sum(torch.softmax(scale * a @ b.T, dim=1) for a, b in pairs) / heads
            done.append((torch.linalg.matrix_power(affinity, power) @ one.flatten()).reshape(one.shape))
        return torch.stack(done)

    assert verdict_of(FROM_NOTHING, another).right


def clicked(count: int = 6) -> list[Click]:
    """Blocks of places that attend to one another and a little to all, in pictures that are not square."""
    grid, size, made = (8, 12), (16, 24), []
    for i in range(count):
        inside = torch.zeros(grid, dtype=torch.bool)
        inside[1 + i % 3 : 4 + i % 3, 1 : 11 - i] = True  # wide, so that no disc fits
        flat = inside.flatten().float()
        affinity = torch.where(inside.flatten()[:, None], flat, 1 - flat) + 0.001
        affinity /= affinity.sum(dim=1, keepdim=True)
        truth = inside.repeat_interleave(2, 0).repeat_interleave(2, 1)
        image = np.zeros((*size, 3), np.uint8)
        made.append(Click(image, truth, affinity, grid, (2 + i % 3, 3)))
    return made


def by_row(affinity, place, grid, size):
    row = affinity[place[0] * grid[1] + place[1]].unflatten(0, grid)
    return ov.binarize(row, 0.5).repeat_interleave(2, 0).repeat_interleave(2, 1)


class TestClick:
    def test_the_row_of_the_place_reaches_the_goal(self) -> None:
        assert click_iou(by_row, clicked()) == 1
        assert verdict_of(ONE_CLICK, by_row, clicked=clicked()).right

    @pytest.mark.parametrize(
        "junk",
        [
            disc(0.2),
            lambda affinity, place, grid, size: torch.ones(size, dtype=torch.bool),
            lambda affinity, place, grid, size: torch.zeros(size, dtype=torch.bool),
            lambda affinity, place, grid, size: by_row(affinity, (7, 11), grid, size),
        ],
        ids=["a disc", "everything", "nothing", "another place"],
    )
    def test_junk_does_not(self, junk) -> None:
        verdict = verdict_of(ONE_CLICK, junk, clicked=clicked())
        assert verdict.right is False and "Not yet" in verdict.text

    def test_what_is_no_mask_is_told_so(self) -> None:
        def heat(affinity, place, grid, size):
            return affinity[0].unflatten(0, grid)

        with pytest.raises(TypeError, match=r"bool tensor \(16, 24\)"):
            click_iou(heat, clicked(1))
        assert verdict_of(ONE_CLICK, None, clicked=clicked(1)).right is None

    def test_no_disc_is_better_than_the_best(self) -> None:
        assert best_disc(clicked()) >= max(click_iou(disc(part), clicked()) for part in (0.1, 0.2, 0.3))
        assert 0 < best_disc(clicked()) < 0.8


def seen() -> list[Seen]:
    truth, other = torch.zeros(4, 6, dtype=torch.bool), torch.zeros(4, 6, dtype=torch.bool)
    truth[:2, :3], other[2:, 3:] = True, True
    exact, both = truth.float(), truth.float() + 0.5 * other.float()
    image = np.zeros((4, 6, 3), np.uint8)
    return [Seen(name, image, truth, other, {"exact": exact, "both": both}, (4.0, 2.0, 1.0)) for name in "ab"]


class TestScores:
    def test_iou_by_hand(self) -> None:
        assert by_class(seen(), "exact") == {"a": 1, "b": 1}
        assert by_class(seen(), "both", 0.4) == {"a": 0.5, "b": 0.5}  # 6 of 12
        assert miou(seen(), "both", 0.6) == 1 == miou(seen(), "both", None)

    def test_leak_by_hand(self) -> None:
        assert leak(seen(), "exact") == 0 and leak(seen(), "both") == 0.5

    def test_attention_that_is_given(self) -> None:
        assert completing.given(seen()) == {
            "the same object": 4,
            "the other object": 2,
            "the background": 1,
        }

    def test_rows_are_stretched_upside_down(self) -> None:
        affinity = torch.full((6, 6), 1 / 6)
        affinity[0, 0] += 1e-4
        weight = completing.stretched_rows(affinity, torch.zeros(2, 3))
        assert weight.shape == (2, 3) and weight[0, 0] == 0 and weight.flatten()[1:].min() > 0.99


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (torch.zeros(4, 6), "one even colour"),
        (torch.eye(4, 6) + 0.1 * torch.arange(24.0).reshape(4, 6) / 24, "the two objects"),
        (1 - torch.eye(4, 6), "the two objects"),
        (torch.arange(24.0).reshape(4, 6) % 5, "random specks"),
    ],
)
def test_a_picture_is_described(values, says: str) -> None:
    assert completing.described(values, torch.eye(4, 6)) == says


@pytest.mark.slow
def test_scenes_are_measured(monkeypatch) -> None:
    pipe = bundled_pipe()
    monkeypatch.setattr(completing, "CONCEPTS", completing.CONCEPTS[7:9])
    one = completing.one_object(pipe, 32, 32, each=1)
    assert [part.concept for part in one] == list(completing.CONCEPTS) == ["cat", "chair"]
    kinds = set(one[0].maps)
    assert {("all blocks", 16), ("best block", 1), ("× noise", 0.0), ("× received", 0.85)} <= kinds
    assert all(heat.shape == (32, 32) for part in one for heat in part.maps.values())
    assert one[0].given[0] > 1 > one[0].given[2] and not one[0].other.any()
    (first, second) = completing.clicks(pipe, 32, 2)
    for click in (first, second):
        y, x = click.place
        assert click.truth[4 * y + 2, 4 * x + 2], "the click lies on the object"


def test_figures_are_drawn() -> None:
    image, affinity = torch.rand(3, 8, 12), torch.rand(24, 24).softmax(dim=1)
    heat = torch.rand(4, 6)
    part = SimpleNamespace(
        concept="cat",
        image=torch.rand(3, 8, 12),
        truth=torch.eye(8, 12) > 0,
        maps={(named, p): heat for named in ("one named", "both named") for p in (0, 1)},
    )
    figures = [
        what_belongs_together.diagram(),
        completion_figures.before_after(image, {"cat": heat, "car": heat}, affinity),
        completion_figures.rivals(part),
        completion_figures.sums(image, affinity, (4, 6)),
        completion_figures.bars({"a": 0.5, "b": 3.0}, "mIoU"),
        completion_figures.clicked(clicked(2), by_row),
        completion_figures.side_by_side(image, {"mask": part.truth}, part.truth),
    ]
    assert [len(figure.axes) for figure in figures] == [1, 6, 5, 7, 1, 6, 1]
    for figure in figures:
        figure.canvas.draw()
