"""DiffSegmenter: its scores against the official ones, its choices, and what it refuses."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clip_tokenizer, sd_pipeline, word_tokenizer, xl_pipeline
from safetensors.torch import load_file
from test_maps import deviation, official  # noqa: F401  (a fixture)

import ovamnb as ov
from ovamnb import segmentation
from ovamnb.images import encode_image, observe, prepare
from ovamnb.recipe import SegmentRecipe
from ovamnb.segmentation import emphasised, fuse, labels_of, resolutions, with_edges
from ovamnb.unet import attention_grids


def test_scores_are_those_of_the_official_diffsegmenter(official):  # noqa: F811
    pipe, expected = official
    clean, noise = expected["ds_clean_latents"], expected["ds_noise"]
    noisy = pipe.scheduler.add_noise(clean, noise, torch.tensor([100]))
    states = expected["prompt_embeds"]
    draws = [(noisy, noise, torch.tensor(100))]
    trace = observe(pipe, draws, states, {}, self_attention=(64,), dtype=torch.float32)
    heats = {times: maps[4] for times, maps in resolutions(trace, states[0], 0, 64).items()}
    assert set(heats) == {1, 2, 4, 8}
    fused = fuse(heats, SegmentRecipe().weights)
    assert deviation(fused, expected["ds_fused_cross_token4"]) < 1e-4
    refined = ov.complete(fused, trace.self_attention(64))
    assert deviation(refined, expected["ds_refined_token4"]) < 1e-4


@pytest.mark.parametrize("make", [sd_pipeline, xl_pipeline])
@pytest.mark.parametrize("together", [False, True])
def test_labels_have_the_size_of_the_image_and_follow_the_scores(make, together, image):
    choices = {"background": 0.4, "together": together, "template": "{}"}  # the encoder takes twenty tokens
    result = ov.segment(make(), image, ["cat", "dog", "my cat"], **choices)
    assert result.labels.shape == (16, 24) and result.scores.shape == (3, 16, 24)
    assert result.labels.dtype == torch.int64 and result.classes == ("cat", "dog", "my cat")
    assert torch.equal(result.labels, labels_of(result.scores, 0.4))
    for k, name in enumerate(result.classes, 1):
        assert torch.equal(result.mask(name), result.labels == k)
    assert "cat" in repr(result) and "16×24" in repr(result)
    with pytest.raises(KeyError, match="my cat"):
        result.mask("horse")


def test_a_batch_changes_nothing(pipe, image):
    one, all_ = (ov.segment(pipe, image, ["cat", "dog", "car"], batch=batch) for batch in (1, 8))
    torch.testing.assert_close(one.scores, all_.scores, atol=1e-4, rtol=1e-4)


def test_each_class_passes_the_text_encoder_once(pipe, image):
    texts = []
    counter = pipe.text_encoder.register_forward_hook(lambda *seen: texts.append(len(seen[2][0])))
    try:
        ov.segment(pipe, image, ["cat", "dog", "car", "horse"], batch=2, template="{}")
    finally:
        counter.remove()
    assert sum(texts) == 4 + 2, "and beside each batch the empty text"


def test_an_accent_in_a_class_is_found_however_it_was_typed(image):
    composed, taken_apart = "caf\u00e9", "cafe\u0301"
    pipe = sd_pipeline(clip_tokenizer())
    one, other = (ov.segment(pipe, image, ["cat", name]) for name in (composed, taken_apart))
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.mask(taken_apart), other.mask(composed))
    with pytest.raises(ValueError, match="Named twice"):
        ov.segment(pipe, image, [composed, taken_apart])


def test_a_class_is_not_looked_for_inside_another(pipe, image):
    """The word's own state as a token changes nothing, if it is put where the word is read."""
    text = ov.record_image(pipe, image).text_of("a my cat and a cat")
    [_, [place]] = text.find("cat")
    own = ov.Token("cat", text.states[place], text.states[:1])
    choices = {"together": True, "template": "{}"}
    by_word, by_token = (ov.segment(pipe, image, ["my cat", cat], **choices) for cat in ("cat", own))
    torch.testing.assert_close(by_word.scores, by_token.scores, atol=1e-4, rtol=1e-4)


def test_every_choice_matters(pipe, image):
    plain = ov.segment(pipe, image, ["cat", "dog"]).scores
    changes = [
        {"timesteps": (700,)},
        {"samples": 2},
        {"weights": {1: 1.0}},
        {"emphasis": 2.0},
        {"power": 3},
        {"template": "{}"},
        {"caption": "cat"},
        {"seed": 1},
    ]
    for change in changes:
        assert not torch.allclose(ov.segment(pipe, image, ["cat", "dog"], **change).scores, plain), change


def test_classes_that_do_not_fit_one_text_are_asked_in_several(pipe, image):
    """The encoder takes twenty tokens: eight classes with "a" and "and" need more."""
    names = ["cat", "dog", "car", "kitten", "horse", "my cat", "my dog", "my car"]
    asked = []

    def caption(picture, start):
        asked.append(start)
        return ""

    result = ov.segment(pipe, image, names, together=True, template="{}", caption=caption)
    assert result.classes == tuple(names)
    assert len(asked) == len(set(asked)), "each text is completed once"
    halves = [ov.segment(pipe, image, part, together=True, template="{}") for part in (names[:4], names[4:])]
    torch.testing.assert_close(
        result.scores, torch.cat([half.scores for half in halves]), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("fit", "passes"), [(3, 2), (0, 4), (100, 1)])
def test_no_more_classes_at_once_than_memory_holds(pipe, image, monkeypatch, fit, passes):
    """Four classes, where half of the memory holds the self-attention of `fit`."""
    h, w = attention_grids(pipe.unet, encode_image(pipe, prepare(pipe, image)).shape[-2:])[0]
    monkeypatch.setattr(segmentation, "free_bytes", lambda device: fit * 2 * 4 * (h * w) ** 2)
    seen = []
    with pipe.unet.register_forward_hook(lambda *_: seen.append(1)):
        ov.segment(pipe, image, ["cat", "dog", "car", "kitten"], samples=1)
    assert len(seen) == passes


def test_memory_that_does_not_suffice_halves_the_batch(pipe, image, monkeypatch):
    right, tried = segmentation.class_maps, []

    def limited(pipe, latents, groups, *rest):
        tried.append(len(groups))
        if len(groups) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return right(pipe, latents, groups, *rest)

    monkeypatch.setattr(segmentation, "class_maps", limited)
    with pytest.warns(UserWarning, match="1 classes at once"):
        result = ov.segment(pipe, image, ["cat", "dog", "car"])
    assert tried == [3, 1, 1, 1]
    monkeypatch.undo()
    torch.testing.assert_close(
        result.scores, ov.segment(pipe, image, ["cat", "dog", "car"]).scores, atol=1e-4, rtol=1e-4
    )


def test_other_errors_are_not_taken_for_memory(pipe, image, monkeypatch):
    def broken(*_):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(segmentation, "class_maps", broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="shape mismatch"):
            ov.segment(pipe, image, ["cat"])


def test_a_crf_ends_it_where_one_is_asked_for(pipe, image):
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
    plain = ov.segment(pipe, image, ["cat", "dog"])
    ended = ov.segment(pipe, image, ["cat", "dog"], crf=True, crf_background=0.4, crf_sharpness=3.0)
    chances = with_edges(plain.scores, image, background=0.4, sharpness=3.0)
    torch.testing.assert_close(chances.sum(dim=0), torch.ones(16, 24), atol=1e-4, rtol=0)
    assert torch.equal(ended.scores, chances[1:]) and torch.equal(ended.labels, chances.argmax(dim=0))


class TestRefusals:
    @pytest.mark.parametrize(
        ("classes", "remedy"),
        [
            ([], "at least one word"),
            (["cat", ""], "no empty ones"),
            (["cat", "dog", "cat"], "twice.*cat"),
            ("cat", "a list of words"),
            (["cat", "CAT"], "twice.*cat, CAT"),
            (["red cat", "dog", "red  Cat"], "twice"),
            (["cat", 3], "no empty ones"),
        ],
    )
    def test_of_class_lists(self, pipe, image, classes, remedy):
        with pytest.raises(ValueError, match=remedy):
            ov.segment(pipe, image, classes)

    def test_of_a_class_the_text_encoder_does_not_know_before_the_unet_runs(self, image, monkeypatch):
        pipe = sd_pipeline(word_tokenizer())
        monkeypatch.setattr(pipe.unet, "forward", None)
        with pytest.raises(ValueError, match="did you mean 'kitten'"):
            ov.segment(pipe, image, ["cat", "kittne"])

    def test_of_a_crf_that_is_not_installed_before_the_unet_runs(self, pipe, image, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
        monkeypatch.setattr(pipe.unet, "forward", None)
        with pytest.raises(ImportError, match="compiler"):
            ov.segment(pipe, image, ["cat"], crf=True)

    @pytest.mark.parametrize("classes", [None, 3, object()])
    def test_of_what_is_no_list(self, pipe, image, classes):
        with pytest.raises(TypeError, match="classes is a list of words"):
            ov.segment(pipe, image, classes)

    def test_of_emoji_and_symbols(self, image):
        for name in ("😀", "♥"):
            with pytest.raises(ValueError, match=f"no word '{name}'"):
                ov.segment(sd_pipeline(word_tokenizer()), image, ["cat", name])

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"batch": None}, "batch counts classes"),
            ({"batch": 0}, "batch counts classes"),
            ({"batch": 2.5}, "batch counts classes"),
            ({"seed": None}, "seed is a whole number"),
            ({"crf": "no"}, "crf is True or False"),
            ({"keep": "all"}, "keep is a function"),
            ({"keep": lambda image, classes: None}, "What `keep` gives is a list of classes"),
            ({"caption": None}, "caption is a text or a function"),
            ({"recipe": "paper"}, "recipe is a SegmentRecipe or None"),
            ({"backgruond": 0.3}, "no 'backgruond' to choose: did you mean 'background'"),
            ({"weights": {8: 1.0}}, r"None of this model's resolutions \(1, 2 times smaller"),
            ({"blocks": "middle"}, "No block matches 'middle'"),
            ({"timesteps": 1000}, "from 0 to 999"),
        ],
    )
    def test_of_arguments_of_a_wrong_kind(self, pipe, image, options, says):
        with pytest.raises((ValueError, TypeError), match=says):
            ov.segment(pipe, image, ["cat"], **options)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"background": 40}, "background is a score: a number from 0 to 1"),
            ({"background": float("nan")}, "background is a score"),
            ({"background": "0.4"}, "background is a score"),
            ({"crf_background": -0.1}, "crf_background is a score"),
            ({"crf_sharpness": 0}, "crf_sharpness is a number above 0"),
            ({"crf_sharpness": None}, "crf_sharpness is a number"),
            ({"weights": None}, "weights is a mapping"),
            ({"weights": {}}, "weights adds up to nothing"),
            ({"weights": {1: 0.0}}, "weights adds up to nothing"),
            ({"weights": {1: -1.0}}, "weight of resolution 1 is a number from 0"),
            ({"weights": {1: float("nan")}}, "weight of resolution 1"),
            ({"weights": {"fine": 1.0}}, "A resolution of the weights"),
            ({"weights": {1: 0.5, "1": 0.5}}, "names the resolution 1 twice"),
            ({"timesteps": ()}, "no timestep in an empty list"),
            ({"timesteps": "100"}, "timesteps count noise levels"),
            ({"timesteps": (1.5,)}, "timesteps count noise levels"),
            ({"samples": 0}, "samples counts draws"),
            ({"emphasis": float("inf")}, "emphasis is a number from 0 to 1000"),
            ({"power": 10**12}, "power counts completions"),
            ({"power": 1e30}, "power counts completions"),
            ({"together": "yes"}, "together is True or False"),
            ({"template": "a photograph"}, "template is a text with one {}"),
            ({"template": "{} and {}"}, "template is a text with one {}"),
            ({"template": "{name}"}, "template is a text with one {}"),
            ({"template": "{"}, "template is a text with one {}"),
            ({"template": None}, "template is a text"),
            ({"blocks": 1.5}, "blocks is a part of a name"),
        ],
    )
    def test_of_a_recipe_out_of_range(self, pipe, image, options, says):
        for make in (SegmentRecipe, lambda **options: ov.segment(pipe, image, ["cat"], **options)):
            with pytest.raises((ValueError, TypeError), match=says):
                make(**options)

    def test_of_an_image(self, pipe):
        with pytest.raises(ValueError, match="at least 8×8"):
            ov.segment(pipe, np.zeros((1, 90, 3), np.uint8), ["cat"])

    def test_of_a_recipe_that_is_none(self, pipe, image):
        with pytest.raises(TypeError, match="backgruond"):
            ov.segment(pipe, image, ["cat"], backgruond=0.3)


def test_a_filter_drops_classes(pipe, image):
    result = ov.segment(pipe, image, ["cat", "dog", "car"], keep=lambda image, classes: ["car", "cat"])
    assert result.classes == ("cat", "car")
    nothing = ov.segment(pipe, image, ["cat"], keep=lambda image, classes: [])
    assert nothing.classes == () and not nothing.labels.any() and "no class" in repr(nothing)


def test_a_captioner_continues_every_class_s_own_text(pipe, image):
    begun = []

    def caption(picture, start):
        begun.append(start)
        return "on grass"

    told = ov.segment(pipe, image, ["cat", "car"], caption=caption, template="{}")
    assert begun == ["a cat", "a car"]
    by_hand = ov.segment(pipe, image, ["cat", "car"], caption="on grass", template="{}")
    assert torch.equal(told.scores, by_hand.scores)


def test_a_recipe_lies_beside_its_model(pipe, image, tmp_path):
    assert SegmentRecipe.of(pipe) == SegmentRecipe()
    pipe.save_pretrained(tmp_path)
    tuned = SegmentRecipe(timesteps=(300, 500), weights={1: 1.0, 2: 0.0}, background=0.7, together=True)
    tuned.save(tmp_path)
    assert SegmentRecipe.of(ov.load_pipeline(tmp_path)) == tuned


def test_weights_may_come_from_json(pipe, image):
    words, numbers = ({key: 1.0} for key in ("1", 1))
    assert SegmentRecipe(weights=words) == SegmentRecipe(weights=numbers)
    assert SegmentRecipe(timesteps=[100]) == SegmentRecipe(timesteps=100) == SegmentRecipe()
    scores = [ov.segment(pipe, image, ["cat"], weights=weights).scores for weights in (words, numbers)]
    assert torch.equal(*scores)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"backgruond": 1}', '{"background": 40}', '{"weights": [1]}']
)
def test_a_damaged_recipe_is_told(pipe, image, tmp_path, content):
    pipe.save_pretrained(tmp_path)
    (tmp_path / "segment.json").write_text(content)
    with pytest.raises(ValueError, match=r"segment.json' is no recipe for segmentation"):
        ov.segment(ov.load_pipeline(tmp_path), image, ["cat"])


class TestByHand:
    def test_labels(self):
        scores = torch.tensor([[[0.9, 0.2, 0.6]], [[0.1, 0.3, 0.7]]])  # (class, h, w)
        assert labels_of(scores, 0.5).tolist() == [[1, 0, 2]]

    def test_fusion_weighs_each_resolution_on_its_own_scale(self):
        fine, coarse = torch.tensor([[0.0, 10.0], [0.0, 0.0]]), torch.tensor([[1.0]])
        heat = fuse({1: fine, 2: coarse, 4: torch.rand(1, 1)}, {1: 0.5, 2: 0.3})
        assert heat.tolist() == [[0, 0.5], [0, 0]], "a constant map says nothing"

    def test_emphasis(self):
        states, empty = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]])
        assert emphasised(states, empty, [1], 1.5).tolist() == [[1], [4]]
        assert states[1] == 3, "the states themselves stay"

    def test_emphasis_is_that_of_compel(self):
        """DiffSegmenter writes "cat++" and has compel read it."""
        compels = load_file(Path(__file__).with_name("parity") / "emphasis.safetensors")
        [place] = (compels["raised"] != compels["states"]).any(dim=1).nonzero().flatten().tolist()
        ours = emphasised(compels["states"], compels["empty"], [place], SegmentRecipe().emphasis)
        torch.testing.assert_close(ours, compels["raised"])
