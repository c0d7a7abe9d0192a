"""Chapter 05: its step, its open exercise and its measurements."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ovamnb as ov
from ovamnb.course import a_better_word, token_figures
from ovamnb.course.exercises import verdict_of
from ovamnb.course.token_lessons import (
    FOLLOWED,
    Annotated,
    annotated_scene,
    at_best,
    best_threshold,
    elsewhere,
    heads_of,
    iou,
    journeys,
    map_of,
    masks,
    mean,
    nearest_words,
    scores,
)

WORD = "a photograph of a cat"
OPEN = next(exercise for exercise in a_better_word.EXERCISES if exercise.name == "05.c")


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[3:11, 5:16] = True
    return mask


def parts_of(trace, blocks):
    """The word's vector, and what stands beside it, as the chapter takes them out of a text."""
    text = trace.text_of(WORD)
    place = text.find("cat")[0]
    rest = text.states[[i for i in range(len(text.states)) if i not in place]]
    return text.states[place].mean(dim=0), rest, heads_of(trace, rest, blocks)


class TestStep:
    """The chapter's loop is the package's own, on a grid that is no square."""

    def test_its_losses_are_those_of_gradient_descent_in_the_package(self, trace, mask):
        vector, _, parts = parts_of(trace, 12)
        target = F.adaptive_avg_pool2d(mask[None].float(), (8, 12))[0].flatten()
        losses = []
        for _ in range(5):
            loss, vector = a_better_word.step(vector, *parts, target, 3.0)
            losses.append(loss)
        options = {"optimizer": "sgd", "learning_rate": 3.0, "evaluations": 5, "proximity": 0}
        token = ov.optimize_token(trace, mask, init="cat", blocks=12, **options)
        assert torch.allclose(torch.tensor(losses), torch.tensor(token.losses), atol=1e-4)
        assert losses[-1] < losses[0] - 1e-3

    def test_the_map_of_its_vector_is_the_trace_s(self, trace):
        vector, rest, (query, weight, others) = parts_of(trace, 12)
        score = (query @ (vector @ weight)[..., None]).squeeze(-1)
        mine = (score - others.logsumexp(dim=-1)).sigmoid().mean(dim=0).unflatten(0, (8, 12))
        assert torch.allclose(mine, token_figures.vector_map(trace, rest, vector, 12), atol=1e-4)

    def test_each_cell_pulls_by_how_much_it_is_too_bright(self):
        """With one head whose scores are the vector itself, the gradient is (p − t) / cells."""
        vector, target = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 1.0])
        query, weight = torch.eye(3)[None], torch.eye(3)[None]
        others = torch.zeros(1, 3, 1)
        _, moved = a_better_word.step(vector, query, weight, others, target, 3.0)
        assert torch.allclose(vector - moved, vector.sigmoid() - target, atol=1e-6)

    def test_with_several_heads_each_gradient_is_that_times_a_positive_factor(self):
        """The formula in exercise b's hint: ∂L/∂s_h = (p − t) / (p (1 − p)) · p_h (1 − p_h) / heads."""
        generator = torch.Generator().manual_seed(0)
        vector, target = torch.randn(3, generator=generator), torch.rand(3, generator=generator)
        query, weight = torch.eye(3).repeat(2, 1, 1), torch.stack([torch.eye(3), 2 * torch.eye(3)])
        _, moved = a_better_word.step(vector, query, weight, torch.zeros(2, 3, 1), target, 3.0)
        each = torch.stack([vector, 2 * vector]).sigmoid()  # (head, h·w)
        p = each.mean(dim=0)
        by_score = (p - target) / (p * (1 - p)) * each * (1 - each) / 2
        assert torch.allclose(vector - moved, by_score[0] + 2 * by_score[1], atol=1e-6)
        assert (by_score.sign() == (p - target).sign()).all()

    def test_it_learns_even_where_gradients_are_off(self, trace, mask):
        vector, _, parts = parts_of(trace, 12)
        with torch.no_grad():
            _, moved = a_better_word.step(vector, *parts, torch.ones(96), 3.0)
        assert not torch.equal(vector, moved) and not moved.requires_grad


class TestMasks:
    def test_iou(self):
        one, other = torch.tensor([[True, True, False]]), torch.tensor([[False, True, True]])
        assert iou(one, other) == pytest.approx(1 / 3) and iou(one, one) == 1
        assert iou(one & False, one & False) == 0

    def test_the_best_threshold_is_the_one_that_gives_the_mask(self):
        heat = torch.tensor([[0.0, 0.52, 0.7, 1.0]])  # its threshold counts from its own range
        assert best_threshold(heat, heat > 0.6) in (0.55, 0.6, 0.65)
        assert best_threshold(heat, heat > 0.4) < 0.55

    def test_scores_are_of_masks_with_the_threshold_of_the_annotated_scene(self, trace, mask):
        own = Annotated(None, trace, mask)
        other = Annotated(None, trace, mask.flip(1))
        (guess,) = masks(WORD, own, [other], blocks=12)
        assert scores(WORD, own, [other], blocks=12) == [iou(guess, other.mask)]
        heat = ov.resize(trace.maps(WORD, blocks=12)["cat"], mask)
        assert torch.equal(guess, ov.binarize(heat, best_threshold(heat, mask)))

    def test_what_comes_after_the_map_has_the_recording(self, trace, mask):
        own = Annotated(None, trace, mask)
        (guess,) = masks(WORD, own, [own], None, lambda heat, trace: trace.self_attention(12)[0].view(8, 12))
        assert guess.shape == mask.shape

    def test_at_best_is_never_worse_than_with_one_threshold_for_all(self, trace, mask):
        own, other = Annotated(None, trace, mask), Annotated(None, trace, mask.flip(1))
        best = at_best(lambda seen: map_of(WORD, seen, 12), [own, other])
        assert best >= mean(scores(WORD, own, [own, other], blocks=12))
        assert at_best(lambda seen: seen.mask.float(), [own, other]) == 1

    def test_what_is_elsewhere_is_never_the_annotated_scene(self, trace, mask):
        scenes = [Annotated(None, trace, mask), Annotated(None, trace, mask.flip(1))]
        one, two = (scores(WORD, own, [other], blocks=12)[0] for own, other in (scenes, scenes[::-1]))
        assert elsewhere([WORD, WORD], scenes, 12) == pytest.approx((one + two) / 2)

    def test_states_are_read_at_their_last(self, trace, mask):
        own = Annotated(None, trace, mask)
        token = ov.optimize_token(trace, mask, init="cat", evaluations=2)
        (by_token,), (by_states,) = (masks(ask, own, [own]) for ask in (token, token.states))
        assert torch.equal(by_token, by_states)


def test_journeys_begin_with_the_word_and_never_get_worse_on_their_own_image(trace, mask):
    scenes = [Annotated(None, trace, mask), Annotated(None, trace, mask.flip(0))]
    curves, tokens = journeys(scenes, 12, 0.0)
    assert len(tokens) == 2 and not torch.equal(tokens[0].class_, tokens[1].class_)
    assert curves.shape == (2, len(FOLLOWED), 2)
    assert (curves[:, 1:, 0] <= curves[:, :-1, 0] + 1e-5).all()
    assert torch.allclose(curves[0, 0], curves[1, 0].flip(0), atol=1e-5), "both begin with the word"


class TestFigures:
    def test_what_is_cut_out_is_left_and_the_rest_is_white(self):
        image = np.full((2, 3, 3), 7, np.uint8)
        mask = torch.tensor([[True, False, False], [False, False, True]])
        cut = token_figures.cut_out(image, mask)
        assert (cut[mask.numpy()] == 7).all() and (cut[~mask.numpy()] == 255).all()

    def test_masks_are_titled_with_their_own_iou(self):
        image, mask = np.zeros((4, 6, 3), np.uint8), torch.ones(4, 6, dtype=torch.bool)
        half = mask.clone()
        half[:2] = False
        picture = SimpleNamespace(image=image, objects=[SimpleNamespace(style="drawn")], ground="sand")
        figure = token_figures.draw_masks([Annotated(picture, None, mask)], {"half": [half], "all": [mask]})
        assert [ax.get_title() for ax in figure.axes] == ["drawn · sand", "half: 0.50", "all: 1.00"]

    @pytest.mark.parametrize("objects", token_figures.ROWS)
    def test_what_is_stored_is_drawn_where_it_is(self, objects):
        ax = token_figures.draw_worth(objects).axes[0]
        table = token_figures.measured()["word"][objects]
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
        assert marks == [value for [value] in table.values()]
        low, high = ax.get_xlim()
        assert all(
            low < x < high for line in ax.lines for x in line.get_xdata() if line.get_marker() in "Dxso."
        )


class TestWhatIsSaidOfTheStoredResults:
    """Section 6's sentences, held against the numbers that its figures draw."""

    @staticmethod
    def means(objects: str) -> dict[str, dict[str, float]]:
        table = token_figures.measured()
        asked = ("word", "token", "start only", "average of five")
        return {row: {how: mean(table[how][objects][row]) for how in asked} for row in table["word"][objects]}

    def test_with_one_object_tokens_win_where_the_map_is_used_as_it_is(self):
        one = self.means("1 object(s)")
        plain = {"OVAM", "DAAM", "Attn2Mask, no CRF"}
        for row, found in one.items():
            if row in plain:
                assert found["word"] + 0.02 < found["token"] < found["average of five"]
            else:
                assert found["token"] < found["word"] < found["token"] + 0.02
            assert found["start only"] < found["token"]
        assert plain < one.keys() and len(one) == 7

    def test_with_two_objects_they_lose_and_only_the_plain_average_does_not(self):
        two = self.means("2 object(s)")
        for row, found in two.items():
            assert found["start only"] < found["token"] < found["word"] - 0.02
            assert (found["average of five"] > found["word"]) == (row == "OVAM")

    def test_the_others_draw(self, trace):
        heat = torch.rand(4, 6)
        for figure in (
            token_figures.draw_pull(heat, heat.round()),
            token_figures.draw_scales(heat),
            token_figures.draw_learning([3.0, 2.0, 1.0], {0: heat, 2: heat}),
            token_figures.draw_journeys({"free": torch.rand(3, len(FOLLOWED), 2) + 0.1}),
            a_better_word.diagram(),
        ):
            assert figure.axes


@pytest.fixture(scope="module")
def given():
    pipe = ov.load_pipeline()
    own = annotated_scene(pipe, 7)
    exam = [annotated_scene(pipe, seed, beside="car") for seed in (101, 102, 105)]
    rival = ov.optimize_token(own.trace, own.mask, init="cat", blocks=32)
    return {"own": own, "exam": exam, "rival": rival, "blocks": 32}


@pytest.mark.slow
class TestBesideACar:
    """Exercise c, on fewer scenes than the chapter's."""

    def test_what_is_no_better_does_not_pass(self, given):
        rival = given["rival"]
        for answer in (
            rival,
            rival.class_,
            rival.start,
            torch.zeros_like(rival.class_),
            ov.load_tokens()["car"],
        ):
            assert verdict_of(OPEN, answer, **given).right is False

    def test_what_is_no_vector_is_said_to_be_none(self, given):
        assert "word" in verdict_of(OPEN, "kitten", **given).text
        for answer in (1.0, torch.zeros(3), [given["rival"]]):
            verdict = verdict_of(OPEN, answer, **given)
            assert verdict.right is False and "class vector of the shape (160,)" in verdict.text

    def test_what_is_better_passes(self, given):
        """Learned on the very scenes: the surest way, and not the chapter's."""
        traces, truths = ([getattr(seen, part) for seen in given["exam"]] for part in ("trace", "mask"))
        best = ov.optimize_token(traces, truths, init="cat", blocks=32)
        verdict = verdict_of(OPEN, best, **given)
        assert verdict.right is True and "yours" in verdict.text
        assert verdict_of(OPEN, best.class_, **given).right is True

    def test_it_says_how_far_one_is(self, given):
        names = ("word", "rival")
        asks = (WORD, given["rival"])
        found = {
            name: mean(scores(ask, given["own"], given["exam"], blocks=32))
            for name, ask in zip(names, asks, strict=True)
        }
        text = verdict_of(OPEN, given["rival"], **given).text
        assert f"the word {found['word']:.2f}" in text
        assert f"It takes {max(found.values()) + a_better_word.MARGIN:.2f}" in text


@pytest.mark.slow
def test_the_nearest_word_to_a_word_is_itself():
    pipe = ov.load_pipeline()
    text = ov.record_image(pipe, np.zeros((128, 128, 3), np.uint8)).text_of(WORD)
    vector = text.states[text.find("cat")[0]].mean(dim=0) - text.states[0]
    near = nearest_words(pipe, vector, count=3)
    assert near[0][0] == "cat" and near[0][1] == pytest.approx(1, abs=1e-4) and len(near) == 3
    assert near[1][1] < 0.95
