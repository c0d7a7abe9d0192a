"""Chapter 02: its measuring functions on recordings whose answer is known, its open exercise and its hook."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from shared_fixtures import bundled_pipe
from torch import nn

from ovamnb.course import attention_hooking, layer_sums
from ovamnb.course.exercises import verdict_of
from ovamnb.course.listening import CHANGED, LEFT, ONCE, PATCHED, listen
from ovamnb.select import Block

HOOK, WEIGHTS = (attention_hooking.EXERCISES[i] for i in (1, 3))
H, W = 6, 10
OWN = {"cat": (slice(0, 3), slice(0, 4)), "car": (slice(3, 6), slice(5, 9))}


def painted(place: tuple[slice, slice], other: float, background: float, own: float = 0.8) -> torch.Tensor:
    """A map that pays `own` in its place, `other` in the other object's, and `background` elsewhere."""
    heat = torch.full((H, W), background)
    for one in OWN.values():
        heat[one] = other
    heat[place] = own
    return heat


def known(**layers: tuple[int, int, tuple[float, float, float]]) -> layer_sums.Shown:
    """A scene of a cat and a car, and layers (side, heads, (own, other, background)) that pay this."""

    def maps(text, *, blocks=None):
        names = [blocks] if isinstance(blocks, str) else blocks
        names = names or [name for name in layers if not name.startswith("mid")]
        count = sum(layers[name][1] for name in names)
        share = {}
        for word, place in OWN.items():
            total = torch.zeros(H, W)
            for name in names:
                _, heads, (own, other, background) = layers[name]
                total += heads * painted(place, other, background, own)
            share[word] = total / count
        return SimpleNamespace(share=share)

    blocks = {name: Block((side, side), heads, 1.0) for name, (side, heads, _) in layers.items()}
    masks = {word: np.zeros((H, W), bool) for word in OWN}
    for word, place in OWN.items():
        masks[word][place] = True
    picture = SimpleNamespace(
        caption="a cat and a car",
        labels=np.zeros((H, W), np.uint8),
        objects=tuple(SimpleNamespace(word=word, concept=word) for word in OWN),
        mask=masks.__getitem__,
    )
    return layer_sums.Shown(picture, SimpleNamespace(maps=maps, blocks=blocks))


SCENE = known(up_0=(8, 4, (0.8, 0.1, 0.4)), mid_block=(8, 4, (0.5, 0.5, 0.5)), up_1=(32, 2, (0.4, 0.2, 0.1)))


class TestLayerSums:
    def test_what_is_paid_where(self) -> None:
        assert layer_sums.places([SCENE], "up_1") == pytest.approx((0.4, 0.2, 0.1))
        assert layer_sums.places([SCENE]) == pytest.approx((4 / 6, 0.8 / 6, 1.8 / 6))  # without the mid block

    def test_the_parts_of_the_background_count_heads_and_leave_out_the_middle(self) -> None:
        assert layer_sums.background_by_grid([SCENE]) == pytest.approx({8: 1.6 / 1.8, 32: 0.2 / 1.8})

    def test_layers_by_grid_leave_out_the_middle(self) -> None:
        assert layer_sums.by_grid(SCENE.trace) == {8: ["up_0"], 32: ["up_1"]}

    def test_the_border_compares_a_rim_inside_with_one_outside(self) -> None:
        assert layer_sums.border([SCENE], "up_0") == pytest.approx(2)  # 0.8 : 0.4, and not the other's 0.1
        assert layer_sums.border([SCENE], "up_1") == pytest.approx(4)
        assert layer_sums.border([SCENE, SCENE], "mid_block") == pytest.approx(1)

    def test_the_border_is_not_the_object(self) -> None:
        """Bright in the middle only: the rim is what counts, a thirty-second of the picture on each side."""
        masks, heat = torch.zeros(64, 64, dtype=torch.bool), torch.full((64, 64), 0.1)
        masks[16:48, 16:48] = True
        heat[18:46, 18:46] = 0.9
        heat[masks & (heat < 0.5)] = 0.3
        heat[:14], heat[50:], heat[:, :14], heat[:, 50:] = 0.7, 0.7, 0.7, 0.7
        shown = SimpleNamespace(words=("cat",), mask=lambda word: masks, heat=lambda word, blocks: heat)
        assert layer_sums.border([shown]) == pytest.approx(3)

    def test_iou_at_half_of_the_peak(self) -> None:
        mask = SCENE.mask("cat")
        assert layer_sums.half_peak_iou(painted(OWN["cat"], 0.3, 0.3), mask) == 1
        assert layer_sums.half_peak_iou(painted(OWN["cat"], 0.5, 0.3), mask) == pytest.approx(0.5)
        assert layer_sums.half_peak_iou(torch.ones(H, W), mask) == pytest.approx(12 / 60)

    def test_weights_are_weights(self) -> None:
        """The coarse layer alone takes in the background, which the fine one, weighed up, takes out again."""
        coarse = known(up_0=(8, 4, (0.8, 0.1, 0.5)), up_1=(32, 2, (0.4, 0.1, 0.0)))
        assert layer_sums.fit([coarse], {"up_0": 1.0}) < 0.5
        assert layer_sums.fit([coarse], {"up_0": 1.0, "up_1": 1.0}) == 1
        assert layer_sums.fit([coarse], {"up_0": 1.0, "up_1": 0.1}) < 0.5
        assert layer_sums.fit([coarse], ["up_0"]) == layer_sums.fit([coarse], "up_0")


class TestWeights:
    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (0.5, "a dictionary"),
            ({}, "a dictionary"),
            (16, "a dictionary"),
            ({16: 0.0}, "All weights are 0"),
            ({16: "much"}, "should be a number"),
            ({16: float("nan")}, "should be a number"),
            ({16: True}, "should be a number"),
        ],
    )
    def test_what_are_no_weights(self, answer, said: str) -> None:
        verdict = verdict_of(WEIGHTS, answer, pipe=None)
        assert verdict.right is False and said in verdict.text

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "answer",
        [{16: 1.0}, {32: 1.0}, {"up": 1.0}, {"mid": 1.0}, {16: 1, 8: 1, 32: 1}, {32: -1}, {"nowhere": 1.0}],
        ids=str,
    )
    def test_a_grid_alone_or_all_layers_alike_do_not_reach_the_goal(self, answer) -> None:
        assert verdict_of(WEIGHTS, answer, pipe=bundled_pipe()).right is False

    @pytest.mark.slow
    def test_a_block_that_is_not_there_is_said(self) -> None:
        assert "No block matches 'nowhere'" in verdict_of(WEIGHTS, {"nowhere": 1}, pipe=bundled_pipe()).text

    @pytest.mark.slow
    def test_layers_that_complete_one_another_reach_it(self) -> None:
        answer = {"down_blocks.2": 0.2, "up_blocks.1.attentions.0": 1, 32: 1.5}
        assert verdict_of(WEIGHTS, answer, pipe=bundled_pipe()).right is True

    def test_what_fits_only_the_pictures_that_were_seen(self, monkeypatch) -> None:
        good, bad = (known(a=(8, 1, (0.8, 0.1, b)), b=(32, 1, (0.8, 0.1, 0.5))) for b in (0.1, 0.7))
        monkeypatch.setattr(
            layer_sums, "show_scenes", lambda pipe, seeds: [good if seeds == layer_sums.SHOWN else bad]
        )
        reached, text = layer_sums.judge({"a": 1.0}, None)
        assert not reached and "It suits the pictures" in text


class TestHook:
    """Answers of another kind than those that the exercise knows by heart."""

    def test_a_tensor_with_all_calls_is_a_list_of_them(self) -> None:
        assert verdict_of(HOOK, lambda layer, run: torch.stack(listen(layer, run))).right is True

    def test_without_a_run(self) -> None:
        assert verdict_of(HOOK, lambda layer, run: []).text == ONCE

    def test_a_hook_that_returns_a_copy_in_half_precision(self) -> None:
        def halving(layer: nn.Module, run) -> list:
            handle = layer.register_forward_hook(lambda module, inputs, output: output.half().float())
            try:
                return listen(layer, run)
            finally:
                handle.remove()

        assert verdict_of(HOOK, halving).text == CHANGED

    def test_a_second_hook_that_stays(self) -> None:
        def leaving(layer: nn.Module, run) -> list:
            layer.register_forward_hook(lambda *_: None)
            return listen(layer, run)

        assert verdict_of(HOOK, leaving).text == LEFT

    def test_forward_patched_and_never_put_back(self) -> None:
        def patching(layer: nn.Module, run) -> list:
            layer.forward = layer.forward
            return listen(layer, run)

        assert verdict_of(HOOK, patching).text == PATCHED
        assert verdict_of(HOOK, listen).right is True

    def test_something_else(self) -> None:
        verdict = verdict_of(HOOK, lambda layer, run: [2 * one for one in listen(layer, run)])
        assert verdict.right is False and verdict.text.startswith("Not right yet")

    def test_a_mistake_of_the_reader_names_its_line(self) -> None:
        def misspelt(layer: nn.Module, run) -> list:
            return layer.register_hook(run)

        assert "layer.register_hook(run)" in verdict_of(HOOK, misspelt).text


def test_the_diagram_is_drawn() -> None:
    figure = attention_hooking.diagram()
    assert {text.get_text() for ax in figure.axes for text in ax.texts} >= {"to_q", "to_k", "cat", "0.7"}
