"""Chapter 07: what its tables are read by, and its open exercise."""

import numpy as np
import pytest

from ovamnb.course import score_figures, score_tables
from ovamnb.course.exercises import verdict_of
from ovamnb.course.score_tables import SETS, counts, find, flattery, miou, resampled
from ovamnb.course.when_is_a_number_true import EXERCISES, diagram

REPORT = next(exercise for exercise in EXERCISES if exercise.name == "07.c")


@pytest.mark.parametrize("name", SETS)
def test_the_counts_give_the_table_s_scores(name: str) -> None:
    for (method, by), value in zip(
        counts(name).methods, miou(counts(name).both, counts(name).either), strict=True
    ):
        [row] = [r for r in score_tables.scores(name) if (r["method"], r["asked by"]) == (method, by)]
        assert value == pytest.approx(row["mIoU"], abs=6e-4)


def test_a_method_is_found_by_its_name_or_by_being_tuned() -> None:
    assert find("emoji-sim", "ovam")["tried"] == 1 and find("emoji-sim", "ovam, tuned")["tried"] > 1
    found = counts("emoji-sim")
    assert miou(*found.of("ovam, tuned")) == pytest.approx(find("emoji-sim", "ovam, tuned")["mIoU"], abs=6e-4)
    assert (found.of("ovam", "words")[0] != found.of("ovam", "tokens")[0]).any()
    with pytest.raises(KeyError, match="no method 'nonsense'"):
        found.of("nonsense")


def test_a_class_that_never_came_up_has_no_score() -> None:
    both, either = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 0.0], [2.0, 0.0]])
    assert miou(both, either) == 0.5


def test_the_best_of_many_is_flattered_and_the_best_of_one_is_not() -> None:
    found = counts("emoji-real")
    [(_, published, true)] = flattery(found, (8,), repeats=100)
    assert published > true + 0.01
    place = found.methods.index(("ovam", "words"))
    one = score_tables.Counts(
        found.methods[place : place + 1],
        found.pictures,
        found.classes,
        found.both[place : place + 1],
        found.either[place : place + 1],
    )
    [(_, published, true)] = flattery(one, (40,), repeats=100)
    assert abs(published - true) < 0.01


def test_the_bootstrap_draws_pictures_not_pixels() -> None:
    both, either = np.array([[1.0], [9.0]]), np.array([[10.0], [10.0]])
    assert resampled(both, either, np.array([[0, 0], [1, 1], [0, 1]])).tolist() == [0.1, 0.9, 0.5]


def greedy(both, either):
    scores = miou(both, either)
    return scores.argmax(), scores.max()


def crossed(both, either):
    part = np.arange(both.shape[1]) % 3
    hidden = []
    for k in range(3):
        method = miou(both[:, part != k], either[:, part != k]).argmax()
        hidden.append(miou(both[method, part == k], either[method, part == k]))
    return miou(both, either).argmax(), np.mean(hidden)


@pytest.mark.parametrize(
    ("answer", "right", "said"),
    [
        (crossed, True, "can be published"),
        (greedy, False, "others than those you chose on"),
        (lambda both, either: (0, miou(both, either)[0]), False, "Choose the method by its score"),
        (lambda both, either: (miou(both, either).argmax(), 0.83), False, ""),
        (lambda both, either: (3, 0.9), False, ""),
        (lambda both, either: (3, float("nan")), False, "not finite"),
        (lambda both, either: None, None, "Not written yet"),
    ],
)
def test_a_report_is_believed_only_if_it_is_honest_and_good(answer, right, said: str) -> None:
    verdict = verdict_of(REPORT, answer)
    assert verdict.right is right and said in verdict.text


def test_the_figures_draw_what_they_are_given() -> None:
    figures = [
        diagram(),
        score_figures.side_by_side(5),
        score_figures.before_and_after(["ovam", "daam"]),
        score_figures.taken_decisions(("daam", "ovam")),
        score_figures.parts(("blocks", "one step")),
        score_figures.thresholds(("ovam-map",)),
        score_figures.bars({"ovam": {1: 0.5, 2: 0.25}}, "objects"),
    ]
    for figure in figures:
        figure.canvas.draw()
    heights = [patch.get_height() for patch in figures[-1].axes[0].patches]
    assert heights == [0.5, 0.25]


def test_tuned_and_as_it_is_stand_in_their_own_rows() -> None:
    ax = score_figures.before_and_after(["ovam", "daam"]).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["daam", "ovam"]
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    before = [find("emoji-sim", method)["mIoU"] for method in ("daam", "ovam")]
    after = [find("emoji-sim", f"{method}, tuned")["mIoU"] for method in ("daam", "ovam")]
    assert hollow[0].get_xdata().tolist() == before
    assert ax.containers[0].lines[0].get_xdata().tolist() == after


def test_what_was_no_better_is_drawn_hollow() -> None:
    ax = score_figures.taken_decisions(("ovam",)).axes[0]
    drawn = [line.get_markerfacecolor() != "none" for line in ax.lines if len(line.get_xdata())]
    assert drawn == [taken for *_, taken in score_tables.decisions("ovam")] and not all(drawn)
