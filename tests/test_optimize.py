"""Token optimisation: held against the authors' own steps, by its identity, and by what it must refuse."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import generate, sd_pipeline
from PIL import Image
from safetensors.torch import load_file
from test_maps import PARITY, official, recorded  # noqa: F401 - fixtures

import ovamnb as ov
from ovamnb.objective import Goal, binary_cross_entropy, normalised, two_channel_cross_entropy
from ovamnb.recipe import TOKEN_RECIPES, TokenRecipe
from ovamnb.select import evenly


def box(size=(16, 24)):
    """A mask with an object in its left half."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[size[0] // 4 : -size[0] // 4, 2 : size[1] // 2] = True
    return mask


@pytest.fixture(scope="module")
def others():
    """Three more recordings by the model of `trace`, and a pipeline of another model."""
    pipe, found = sd_pipeline(), []
    for seed in (1, 2, 3):
        with ov.record(pipe, dtype=torch.float32) as trace:
            generate(pipe, height=16, width=24, seed=seed)
        found.append(trace)
    return found


class TestThePapersOwnSteps:
    def test_the_same_vectors_epoch_by_epoch(self, official, recorded):  # noqa: F811
        trace, expected = recorded[0], load_file(PARITY / "token.safetensors")
        mask = np.zeros((512, 512), bool)
        mask[120:360, 200:440] = True
        seen = []
        token = ov.optimize_token(
            trace,
            mask,
            init=official[1]["attribution_embeds"][[0, 2]],
            recipe="paper",
            evaluations=8,
            step_size=3,
            queries="unconditional",
            watch=lambda i, vector, loss: seen.append(vector),
        )
        torch.testing.assert_close(torch.tensor(token.losses), expected["losses"], atol=1e-5, rtol=1e-5)
        # Theirs moves both vectors, ours the class by twice as much: the difference is what the map sees.
        theirs = expected["states"][:, 1] - expected["states"][:, 0]
        torch.testing.assert_close(torch.stack(seen) - token.start, theirs, atol=2e-3, rtol=1e-3)

    def test_the_published_settings(self):
        paper = TOKEN_RECIPES["paper"]
        assert (paper.optimizer, paper.evaluations, paper.step_size, paper.gamma) == ("sgd", 800, 120, 0.7)
        assert (paper.loss, paper.normalise, paper.at, paper.steps) == (
            "two-channel",
            "minmax",
            "image",
            None,
        )


class TestTheMap:
    @pytest.mark.parametrize("background", ["start", "text"])
    def test_the_sigmoid_is_the_softmax(self, trace, background):
        """What is optimised is what `Trace.maps` answers."""
        token = ov.optimize_token(trace, box(), init="cat", background=background, evaluations=3)
        goal = Goal(trace, box(), token.background, TokenRecipe(steps=None))
        torch.testing.assert_close(
            goal.class_map(token.class_), trace.maps(token)["cat"], atol=1e-5, rtol=1e-5
        )

    def test_only_the_difference_counts(self, trace):
        token = ov.optimize_token(trace, box(), init="cat", recipe="paper", evaluations=3)
        moved = ov.Token("cat", token.class_ + 1, token.background + 1)
        torch.testing.assert_close(trace.maps(moved)["cat"], trace.maps(token)["cat"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(moved.anchored(token.start), token.class_)

    def test_the_maximum_is_counted_and_reached(self, trace):
        goal = Goal(trace, box(), torch.zeros(1, 16), TokenRecipe(steps=2))
        assert goal.maximum == 2 * 2 * 6  # steps × heads × blocks: two down, four up
        assert goal.class_map(torch.zeros(16)).allclose(torch.tensor(goal.maximum / 2))  # σ(0) everywhere

    def test_a_mask_is_averaged_over_each_cell(self, trace):
        mask = torch.zeros(16, 24, dtype=torch.bool)
        mask[0, 0] = True  # a quarter of the first cell of 8×12
        goal = Goal(trace, mask, torch.zeros(1, 16), TokenRecipe())
        assert goal.target[0, 0] == 0.25 and goal.target.sum() == 0.25

    def test_steps_are_spread(self):
        assert evenly(10, 2) == [2, 7]
        assert evenly(3, 5) == evenly(3, None) == [0, 1, 2]


class TestLosses:
    HEAT = torch.tensor([[6.0, 2.0]])  # of 8
    TARGET = torch.tensor([[1.0, 0.0]])

    def test_by_the_maximum(self):
        pair = normalised(self.HEAT, 8, "maximum")
        assert pair.tolist() == [[[0.25, 0.75]], [[0.75, 0.25]]]
        assert binary_cross_entropy(pair, self.TARGET).item() == pytest.approx(-math.log(0.75))

    def test_both_maps_are_scaled_together(self):
        pair = normalised(torch.tensor([[6.0, 4.0]]), 8, "minmax")  # background 2, 4; class 6, 4
        assert pair.tolist() == [[[0.0, 0.5]], [[1.0, 0.5]]]

    def test_two_channels_never_reach_zero(self):
        perfect = torch.stack([1 - self.TARGET, self.TARGET])
        assert two_channel_cross_entropy(perfect, self.TARGET).item() == pytest.approx(
            math.log(1 + math.exp(-1))
        )


class TestOptimising:
    def test_the_loss_falls_and_the_best_is_kept(self, trace):
        seen = []
        token = ov.optimize_token(
            trace, box(), init="cat", proximity=0.0, watch=lambda i, vector, loss: seen.append((loss, vector))
        )
        assert min(token.losses) < 0.9 * token.losses[0]
        assert token.class_.equal(min(seen, key=lambda pair: pair[0])[1])
        assert len(token.losses) <= 25

    def test_it_says_where_it_comes_from(self, trace):
        token = ov.optimize_token(trace, box(), init="cat", evaluations=2)
        assert token.word == "cat" and len(token.losses) == 2
        assert token.settings["evaluations"] == 2 and token.settings["images"] == 1
        assert set(token.fingerprint) == set(trace.key_weights)

    @pytest.mark.parametrize(("optimizer", "rate"), [("lbfgs", 1.0), ("adam", 0.1), ("sgd", 10.0)])
    def test_every_optimiser(self, trace, optimizer, rate):
        token = ov.optimize_token(
            trace, box(), init="cat", optimizer=optimizer, learning_rate=rate, evaluations=10
        )
        # Random weights leave little to learn: .002 with each of the three, of which rounding moves 1e-7.
        assert min(token.losses) < token.losses[0] - 0.001

    def test_several_images_and_no_grad_outside(self, trace, others):
        with torch.no_grad():
            token = ov.optimize_token([trace, *others], [box()] * 4, init="cat", evaluations=5)
        assert token.settings["images"] == 4 and min(token.losses) < token.losses[0]

    def test_proximity_keeps_it_near(self, trace):
        def moved(proximity):
            token = ov.optimize_token(trace, box(), init="cat", proximity=proximity)
            text = trace.text_of("a photograph of a cat")
            return (token.class_ - text.states[text.find("cat")[0][0]]).norm()

        assert moved(10.0) < moved(0.1) < moved(0.0)

    def test_a_held_out_image_decides_and_ends_it(self, trace, others):
        options = {"init": "cat", "proximity": 0.0, "evaluations": 200}
        long, seen = ov.optimize_token(trace, box(), **options), []
        stopped = ov.optimize_token(
            trace,
            box(),
            held_out=(others[0], ~box()),  # the opposite: what is learned soon makes it worse
            patience=4,
            watch=lambda i, vector, loss: seen.append(vector),
            **options,
        )
        assert len(stopped.losses) < len(long.losses)
        check = Goal(others[0], ~box(), stopped.background, TokenRecipe())
        assert stopped.class_.equal(min(seen, key=lambda vector: check.loss(vector).item()))

    def test_a_token_is_a_beginning(self, trace, others):
        first = ov.optimize_token(trace, box(), init="cat", evaluations=5)
        second = ov.optimize_token(others[0], box(), init=first, evaluations=1)
        torch.testing.assert_close(second.class_, first.class_)
        assert second.word == "cat"

    def test_a_word_of_many_subtokens(self, trace):
        """ "dig" is spelled by this tokenizer: its mean, or its last, as in the paper."""
        text = trace.text_of("a photograph of a dig")
        [place] = text.find("dig")
        assert len(place) == 3
        mean = ov.optimize_token(trace, box(), init="dig", evaluations=1)
        last = ov.optimize_token(trace, box(), init="dig", subtokens="last", evaluations=1)
        torch.testing.assert_close(mean.class_, text.states[place].mean(dim=0))
        torch.testing.assert_close(last.class_, text.states[place[-1]])
        assert len(mean.background) == len(text.states) - 3

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_recordings(self, dtype):
        pipe = sd_pipeline().to(dtype)
        with ov.record(pipe, dtype=dtype) as trace:
            generate(pipe, height=16, width=24)
        token = ov.optimize_token(trace, box(), init="cat", evaluations=5)
        assert token.class_.dtype == torch.float32
        assert trace.maps(token)["cat"].isfinite().all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("mask", "says"),
        [
            (torch.zeros(16, 24), "empty"),
            (torch.ones(16, 24), "whole image"),
            (torch.zeros(1, 16, 24), r"shape \(h, w\)"),
            (torch.arange(16 * 24).reshape(16, 24), "0 and one other value"),
            (np.random.default_rng(0).random((16, 24)), "grey > 127"),
            (torch.eye(24)[:24], "uncropped"),
        ],
    )
    def test_a_mask_that_is_none(self, trace, mask, says):
        with pytest.raises(ValueError, match=says):
            ov.optimize_token(trace, mask, init="cat")

    def test_a_mask_of_another_size_is_resized_with_a_note(self, trace):
        with pytest.warns(UserWarning, match="8×12: resized to the image's 16×24"):
            ov.optimize_token(trace, box((8, 12)), init="cat", evaluations=1)

    def test_an_image_of_two_colours_is_a_mask(self, trace):
        grey = Image.fromarray(box().numpy().astype(np.uint8) * 255)
        assert ov.optimize_token(trace, grey, init="cat", evaluations=1)

    def test_traces_of_different_models(self, trace):
        pipe = sd_pipeline()
        pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight.data.mul_(2)
        with ov.record(pipe, dtype=torch.float32) as other:
            generate(pipe, height=16, width=24)
        with pytest.raises(ValueError, match="different models"):
            ov.optimize_token([trace, other], [box(), box()], init="cat")
        with pytest.raises(ValueError, match="different models"):
            ov.optimize_token(trace, box(), init="cat", held_out=(other, box()))

    def test_an_empty_trace(self):
        with pytest.raises(ValueError, match="trace is empty"):
            ov.optimize_token(ov.Trace(), box(), init="cat")

    def test_numbers_that_do_not_fit(self, trace):
        with pytest.raises(ValueError, match="1 traces, 2 masks"):
            ov.optimize_token([trace], [box(), box()], init="cat")

    @pytest.mark.parametrize(
        "changes", [{"loss": "mse"}, {"optimizer": "rmsprop"}, {"evaluations": 0}, {"steps": 0}]
    )
    def test_a_recipe_that_is_none(self, trace, changes):
        with pytest.raises(ValueError, match=r"one of|count from 1"):
            ov.optimize_token(trace, box(), init="cat", **changes)
        with pytest.raises(ValueError, match="no recipe"):
            ov.optimize_token(trace, box(), init="cat", recipe="slow")

    def test_a_loss_that_is_no_number(self, trace):
        with pytest.raises(FloatingPointError, match="learning rate"):
            ov.optimize_token(
                trace, box(), init="cat", optimizer="sgd", learning_rate=1e38, evaluations=20, proximity=0.0
            )

    @pytest.mark.parametrize("bad", ["queries", "overflow"])
    def test_queries_that_are_not_finite(self, trace, bad):
        broken = copy.copy(trace)
        factor = torch.nan if bad == "queries" else 1e30
        broken.queries = {
            half: {name: query * factor for name, query in blocks.items()}
            for half, blocks in trace.queries.items()
        }
        with pytest.raises(FloatingPointError, match=r"record with dtype=torch\.float32"):
            ov.optimize_token(broken, box(), init=torch.randn(2, 16) * 1e20)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"learning_rate": 0}, "learning_rate is a number above 0"),
            ({"learning_rate": math.nan}, "learning_rate is a number above 0"),
            ({"learning_rate": "1"}, "learning_rate is a number"),
            ({"evaluations": 2.5}, "evaluations count from 1"),
            ({"evaluations": 10**12}, "evaluations count from 1"),
            ({"steps": 2.5}, "steps count from 1"),
            ({"step_size": 0}, "step_size counts steps"),
            ({"gamma": 0.5}, "L-BFGS has no gamma"),
            ({"gamma": math.nan}, "gamma is a number above 0"),
            ({"proximity": -1}, "proximity is a number, 0 or more"),
            ({"loss": []}, "loss is one of"),
            ({"rate": 1}, "no 'rate' to choose"),
            ({"recipe": None}, "recipe is 'fast', 'paper' or a TokenRecipe"),
            ({"patience": None}, "patience counts evaluations"),
            ({"watch": 3}, "watch is a function"),
            ({"word": 3}, "word is a name"),
            ({"image": "0"}, "image counts the images"),
            ({"image": 0.0}, "image counts the images"),
            ({"blocks": []}, "chooses no block"),
            ({"queries": 3}, "were not recorded"),
            ({"held_out": 3}, "held_out is a pair"),
            ({"held_out": ("trace", "mask")}, "held_out is a pair"),
            ({"init": None}, "A text is a string"),
            ({"init": torch.full((2, 16), math.nan)}, "init holds values that are not finite"),
            ({"init": torch.zeros(2, 16)}, "the same, so that the map says nothing"),
        ],
    )
    def test_arguments_of_a_wrong_kind(self, trace, options, says):
        with pytest.raises((ValueError, TypeError), match=says):
            ov.optimize_token(trace, box(), **{"init": "cat"} | options)

    def test_what_is_no_trace_and_no_list(self, trace):
        for traces in (None, "trace", [trace, None]):
            with pytest.raises(TypeError, match=r"a list of traces, or one trace|is a Trace"):
                ov.optimize_token(traces, box(), init="cat")
        with pytest.raises(TypeError, match="masks is a list of masks"):
            ov.optimize_token([trace], None, init="cat")

    def test_numpy_states_are_a_beginning(self, trace):
        states = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
        tokens = [ov.optimize_token(trace, box(), init=i, evaluations=2) for i in (states, states.numpy())]
        assert tokens[0].class_.equal(tokens[1].class_)

    def test_a_beginning_that_is_none(self, trace):
        with pytest.raises(ValueError, match="class last"):
            ov.optimize_token(trace, box(), init=torch.zeros(1, 16))
        with pytest.raises(ValueError, match="dim 5"):
            ov.optimize_token(trace, box(), init=torch.zeros(2, 5))
