"""DiffSegmenter: its scores against the official ones, its choices, and what it refuses."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clip_tokenizer, sd_pipeline, word_tokenizer, xl_pipeline
from PIL import Image
from safetensors.torch import load_file
from test_maps import deviation, official  # noqa: F401  (a fixture)

import ovamnb as ov
from ovamnb import class_maps, segmentation
from ovamnb.class_maps import emphasised, fuse, resolutions
from ovamnb.images import encode_image, observe, prepare
from ovamnb.recipe import SEGMENT_RECIPES, SegmentRecipe
from ovamnb.refine import minmax
from ovamnb.segmentation import AT_ONCE, labels_of, scaled_at, with_edges
from ovamnb.text import TextEncoder
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
    choices = {"together": True, "template": "{}", "article": True}
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
        {"article": True},
        {"size": (32, 8)},
        {"size": "native"},
        {"latents": "mode"},
        {"minmax_at": "map"},
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
            ({"recipe": 3}, "recipe is a SegmentRecipe, a name or None"),
            ({"recipe": "papre"}, "recipe is one of 'paper', not 'papre'"),
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
            ({"article": 1}, "article is True or False"),
            ({"with_ing": None}, "with_ing is True or False"),
            ({"subtokens": "first"}, "subtokens is one of 'mean', 'last'"),
            ({"latents": "mean"}, "latents is one of 'sample', 'mode'"),
            ({"minmax_at": "grid"}, "minmax_at is one of 'image', 'map'"),
            ({"size": "square"}, r"size as \(h, w\) in pixels, 'native' or None"),
            ({"size": 512}, r"size as \(h, w\) in pixels, 'native' or None"),
            ({"size": (0, 512)}, "1 or more each way"),
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
    assert begun == ["cat", "car"]
    by_hand = ov.segment(pipe, image, ["cat", "car"], caption="on grass", template="{}")
    assert torch.equal(told.scores, by_hand.scores)


def test_a_recipe_lies_beside_its_model(pipe, image, tmp_path):
    assert SegmentRecipe.of(pipe) == SegmentRecipe()
    pipe.save_pretrained(tmp_path)
    chosen = {"article": True, "subtokens": "mean", "latents": "mode", "minmax_at": "map", "size": (48, 32)}
    tuned = SegmentRecipe(timesteps=(300, 500), weights={1: 1.0, 2: 0.0}, background=0.7, **chosen)
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


class TestThePapersWay:
    """Each choice of the paper against the same by other means."""

    def test_it_has_a_name(self, pipe, image):
        paper = SEGMENT_RECIPES["paper"]
        assert paper == SegmentRecipe(size="native")
        by_name, by_hand = (ov.segment(pipe, image, ["cat"], recipe=one) for one in ("paper", paper))
        assert torch.equal(by_name.scores, by_hand.scores)
        changed = ov.segment(pipe, image, ["cat"], recipe="paper", background=0.9)
        assert changed.background == 0.9

    def test_no_article(self, pipe, image):
        heard = []
        for article in (False, True):
            ov.segment(
                pipe, image, ["cat"], caption=lambda _, start: heard.append(start) or "", article=article
            )
        assert heard == ["a photograph of cat", "a photograph of a cat"]

    def test_the_image_is_squashed_and_the_labels_have_its_own_size(self, pipe, image):
        seen = []
        with pipe.unet.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:]))):
            for size in (None, "native", (24, 40)):
                result = ov.segment(pipe, image, ["cat"], size=size)
                assert result.labels.shape == (16, 24) and result.scores.shape == (1, 16, 24)
        h, w = seen[0]
        assert h < w and seen[1:] == [(8, 8), (12, 20)], "in latents, half of the pixels"
        squashed = Image.fromarray(image).resize((40, 24), Image.Resampling.BICUBIC)
        own, other = (
            ov.segment(pipe, one, ["cat"], size=(24, 40), minmax_at="map") for one in (image, squashed)
        )
        assert torch.equal(own.maps, other.maps) and other.labels.shape == (24, 40)

    def test_the_last_sub_token_is_read_and_it_alone_is_raised(self, pipe, image, monkeypatch):
        raised = []

        def note(states, empty, tokens, emphasis):
            raised.append((tokens, emphasis))
            return emphasised(states, empty, tokens, emphasis)

        monkeypatch.setattr(class_maps, "emphasised", note)
        last, mean = (
            ov.segment(pipe, image, ["kitten"], template="{}", subtokens=how) for how in ("last", "mean")
        )
        own = TextEncoder.of(pipe).read("kitten").places(["kitten"])[0]
        assert len(own) > 1 and raised == [(own[-1:], 1.21), (own, 1.21)]
        assert not torch.equal(last.scores, mean.scores)

    def test_by_the_last_sub_token_is_that_token_s_map(self, pipe, image):
        """By a recording of the same pass: no emphasis, one resolution, no completion worth naming."""
        options = {
            "template": "{}",
            "emphasis": 1.0,
            "weights": {1: 1.0},
            "latents": "mode",
            "size": (16, 24),
        }
        trace = ov.record_image(
            pipe, image, "kitten", size=(16, 24), self_attention=(12,), dtype=torch.float32
        )
        states = pipe.encode_prompt("kitten", "cpu", 1, False)[0][0]
        place = TextEncoder.of(pipe).read("kitten").places(["kitten"])[0]
        maps = resolutions(trace, states, 0, 12)[1]
        for how, chosen in (("last", place[-1:]), ("mean", place)):
            heat = maps[chosen].mean(dim=0)
            by_hand = minmax(ov.resize(ov.complete(minmax(heat), trace.self_attention(12)), (16, 24)))
            found = ov.segment(pipe, image, ["kitten"], subtokens=how, **options).scores[0]
            torch.testing.assert_close(found, by_hand, atol=1e-3, rtol=0)

    def test_a_word_in_ing_behind_the_class_is_averaged_in(self, image):
        pipe = sd_pipeline(clip_tokenizer())
        text = TextEncoder.of(pipe).read("cat sleeping on king")
        [cat], [doing] = text.find("cat"), text.find("sleeping")
        assert text.ing_after(cat) == doing and text.ing_after(doing) == []
        assert TextEncoder.of(pipe).read("cat on sleeping").ing_after([1]) == []
        options = {"template": "{}", "caption": "sleeping", "emphasis": 1.0, "weights": {1: 1.0}}
        options |= {"latents": "mode", "size": (16, 24)}
        trace = ov.record_image(
            pipe, image, "cat sleeping", size=(16, 24), self_attention=(12,), dtype=torch.float32
        )
        states = pipe.encode_prompt("cat sleeping", "cpu", 1, False)[0][0]
        maps = resolutions(trace, states, 0, 12)[1]
        for with_ing, chosen in ((True, [cat[-1], doing[-1]]), (False, cat[-1:])):
            heat = maps[chosen].mean(dim=0)
            by_hand = minmax(ov.resize(ov.complete(minmax(heat), trace.self_attention(12)), (16, 24)))
            found = ov.segment(pipe, image, ["cat"], with_ing=with_ing, **options).scores[0]
            torch.testing.assert_close(found, by_hand, atol=1e-3, rtol=0)

    def test_a_token_is_no_sub_token(self, pipe, image):
        """A token takes one place, whatever its word had, and the word in -ing moves up behind it."""
        token = ov.Token("kitten", torch.linspace(-1, 1, 16), torch.zeros(1, 16))
        options = {"template": "{}", "caption": "sleeping"}
        with_ing, without = (
            ov.segment(pipe, image, [token], with_ing=chosen, **options).scores for chosen in (True, False)
        )
        assert with_ing.isfinite().all() and not torch.equal(with_ing, without)

    def test_scaled_at_the_image_s_size_every_class_reaches_both_ends(self, pipe, image):
        scores = ov.segment(pipe, image, ["cat", "dog"]).scores
        torch.testing.assert_close(scores.amin(dim=(1, 2)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(scores.amax(dim=(1, 2)), torch.ones(2), atol=1e-5, rtol=0)
        maps = torch.rand(3, 4, 6)
        at_image = ov.resize(scaled_at(maps, (15, 31)), (15, 31))
        torch.testing.assert_close(at_image, minmax(ov.resize(maps, (15, 31))), atol=1e-5, rtol=0)
        assert torch.equal(scaled_at(maps, None), minmax(maps))


class TestManyClasses:
    def test_labels_are_those_of_all_scores_at_once(self):
        maps = torch.rand(3 * AT_ONCE + 5, 6, 7, generator=torch.Generator().manual_seed(0))
        for background in (0.0, 0.8, 0.95):
            best, label = ov.resize(maps, (40, 33)).max(dim=0)
            expected = torch.where(best > background, label + 1, 0)
            assert torch.equal(labels_of(maps, background, (40, 33)), expected)
            assert len(expected.unique()) > AT_ONCE or background
        assert not labels_of(maps, 1.0).any()

    def test_scores_at_the_image_s_size_are_made_only_when_asked_for(self, pipe, image, monkeypatch):
        largest, real = [], segmentation.stretched

        def note(maps, size):
            largest.append(len(maps) if maps.ndim > 2 else 1)
            return real(maps, size)

        monkeypatch.setattr(segmentation, "stretched", note)
        monkeypatch.setattr(segmentation, "AT_ONCE", 2)
        result = ov.segment(pipe, np.zeros((160, 240, 3), np.uint8), ["cat", "dog", "car", "red", "on"])
        assert max(largest) == 2 and result.maps.shape[-2:] < (160, 240)
        assert result.scores.shape == (5, 160, 240) and max(largest) == 5
        assert result.scores is result.scores, "and then kept"
        assert torch.equal(result.labels, labels_of(result.scores, result.background))
        assert ov.segment(pipe, image, ["cat"], keep=lambda *_: []).scores.shape == (0, 16, 24)


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
