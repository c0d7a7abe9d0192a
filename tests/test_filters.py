"""Captioners and filters: the diffusion model's own; BLIP and CLIP in small, with real processors."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import sd_pipeline, word_tokenizer

import ovamnb as ov
from ovamnb.evidence import (
    BlipCaptioner,
    ClipFilter,
    DiffusionCaptioner,
    DiffusionFilter,
    evidence,
    paper_filter,
)
from ovamnb.evidence import denoising as module

CLASSES = ["cat", "dog", "car"]


def small_blip():
    """A BLIP in small, with random weights, and its processor."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    torch.manual_seed(0)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "cat", "dog", "on", "grass"]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(vocab)}, bos_token="[DEC]")
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(
        text_config={"vocab_size": len(vocab), "encoder_hidden_size": 16, **small, **ids},
        vision_config={"image_size": 16, "patch_size": 8, **small},
    )
    images = BlipImageProcessorPil(size={"height": 16, "width": 16})
    return BlipForConditionalGeneration(config).eval(), BlipProcessor(images, tokenizer)


@contextmanager
def counted(model):
    """The pictures that a BLIP looks at meanwhile: an entry for each look."""
    seen = []
    with model.vision_model.register_forward_hook(lambda *given: seen.append(len(given[2][0]))):
        yield seen


@pytest.fixture(scope="module")
def blip():
    return small_blip()


class TestClip:
    def test_the_best_class_stays_and_the_rule_decides_on_the_others(self, clip, image):
        everything = ClipFilter(*clip, near_best=-10)(image, CLASSES)
        best = ClipFilter(*clip, near_best=1.0)(image, CLASSES)
        assert everything == CLASSES and len(best) == 1

    def test_similarities_are_those_of_the_model(self, clip, image):
        model, processor = clip
        picture, texts = ClipFilter(*clip).embed(image, ["a cat", "a dog"])
        inputs = processor(images=image, text=["a cat", "a dog"], padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits_per_image / model.logit_scale.exp()
        torch.testing.assert_close(picture @ texts.T, logits)

    def test_a_class_of_the_caption_stays(self, clip, image):
        best = ClipFilter(*clip, near_best=1.0)(image, CLASSES)
        other = next(name for name in CLASSES if name not in best)
        said = ClipFilter(
            *clip, near_best=1.0, near_caption=0.9999, captioner=lambda image: f"a photograph of a {other}"
        )
        assert set(said(image, CLASSES)) == {*best, other}

    def test_a_class_that_is_near_enough_by_itself_stays(self, clip, image):
        picture, texts = ClipFilter(*clip).embed(image, [f"a photograph of a {name}" for name in CLASSES])
        second = (texts @ picture[0]).sort(descending=True).values[1].item()
        assert len(ClipFilter(*clip, near_best=1.0, least=second - 1e-5)(image, CLASSES)) == 2

    def test_a_class_is_encoded_once_for_all_pictures(self, clip, image):
        keep, texts, pictures = ClipFilter(*clip, near_best=-10), [], []
        hooks = [
            clip[0].text_model.register_forward_hook(lambda *seen: texts.append(len(seen[2][0]))),
            clip[0].vision_model.register_forward_hook(lambda *seen: pictures.append(len(seen[2][0]))),
        ]
        try:
            for classes in (CLASSES[:2], CLASSES[:2], CLASSES):
                assert keep(image, classes) == classes
        finally:
            for hook in hooks:
                hook.remove()
        assert texts == [1] * len(CLASSES) and pictures == [1, 1, 1]

    def test_a_text_is_what_it_is_in_any_company(self, image):
        keep = ClipFilter.load("bundled", device="cpu")
        _, [alone] = keep.embed(image, ["a cat"])
        _, [*_, again] = ClipFilter.load("bundled", device="cpu").embed(image, ["a car and a tree", "a cat"])
        assert torch.equal(alone, again)

    def test_it_loads_from_a_folder(self, clip, image, tmp_path):
        for part in clip:
            part.save_pretrained(tmp_path)
        assert ClipFilter.load(tmp_path, near_best=1.0)(image, CLASSES) == ClipFilter(*clip, near_best=1.0)(
            image, CLASSES
        )


class TestWordsThatAModelLacks:
    """All of them are one and the same token to it, and would be one answer."""

    def test_clip(self, image):
        with pytest.raises(
            ValueError, match="This CLIP does not know all words of 'quark': name it otherwise"
        ):
            ClipFilter.load("bundled")(image, ["cat", "quark"])

    def test_the_diffusion_model_itself(self, image):
        with pytest.raises(ValueError, match="vocabulary has no word 'quark'"):
            evidence(sd_pipeline(word_tokenizer()), image, ["a cat", "a quark"])

    @pytest.mark.parametrize("options", [{"texts": "cat"}, {"texts": []}, {"batch": 0}, {"batch": None}])
    def test_what_evidence_cannot_use(self, pipe, image, options):
        with pytest.raises((TypeError, ValueError), match=r"texts|text to judge"):
            evidence(pipe, image, **{"texts": ["a cat"]} | options)


class TestBlip:
    def test_it_says_words_of_its_vocabulary_and_always_the_same(self, blip, image):
        describe = BlipCaptioner(*blip, longest=5)
        caption = describe(image)
        assert caption == describe(image) and len(caption.split()) <= 5
        assert set(caption.split()) <= {"a", "cat", "dog", "on", "grass"}

    def test_it_continues_a_text(self, blip, image):
        describe = BlipCaptioner(*blip, longest=5)
        model, processor = blip
        start = processor(images=image, text="a cat", return_tensors="pt")
        with torch.no_grad():
            words = model.generate(**start, max_new_tokens=5)
        whole = processor.decode(words[0], skip_special_tokens=True)
        assert whole.startswith("a cat") and whole == f"a cat {describe(image, 'a cat')}".strip()

    def test_it_loads_from_a_folder(self, blip, image, tmp_path):
        for part in blip:
            part.save_pretrained(tmp_path)
        assert BlipCaptioner.load(tmp_path)(image) == BlipCaptioner(*blip)(image)

    def test_what_was_said_of_an_image_is_said_again_and_of_another_anew(self, blip, image):
        describe = BlipCaptioner(*blip, longest=5)
        with counted(blip[0]) as pictures:
            first = [describe(image), describe(image.copy(), "a cat"), describe(image)]
            assert pictures == [1, 1] and first[0] == first[2]
            describe(255 - image), describe(image)
            assert pictures == [1, 1, 1, 1]


class TestThePapersFilter:
    """Both rules, and one captioner for the filter and the prompts."""

    @pytest.fixture
    def loaded(self, clip, blip, tmp_path):
        for name, parts in (("clip", clip), ("blip", blip)):
            for part in parts:
                part.save_pretrained(tmp_path / name)
        return paper_filter("cpu", clip=tmp_path / "clip", blip=tmp_path / "blip")

    def test_its_rules_are_the_papers(self, loaded):
        keep, describe = loaded
        assert (keep.near_best, keep.near_caption, keep.least) == (0.97, 0.8, np.inf)
        assert keep.captioner is describe

    def test_either_rule_keeps_a_class(self, loaded, image):
        keep, describe = loaded
        keep.near_best, keep.near_caption = 1.0, 2.0
        best = keep(image, CLASSES)
        assert len(best) == 1
        _, texts = keep.embed(image, [f"a photograph of a {name}" for name in CLASSES])
        _, [said] = keep.embed(image, [describe(image)])
        near = texts @ said
        other = max((k for k, name in enumerate(CLASSES) if name not in best), key=lambda k: near[k])
        keep.near_caption = float(near[other]) - 1e-5
        assert {*best, CLASSES[other]} <= {*keep(image, CLASSES)}

    def test_an_image_is_captioned_once_for_all_methods(self, loaded, image, pipe):
        keep, describe = loaded
        with counted(describe.model) as pictures:
            for _ in range(2):
                ov.segment(pipe, image, ["cat", "dog"], template="{}", keep=keep, caption=describe)
            kept = keep(image, ["cat", "dog"])
        assert pictures == [1] * (1 + len(kept)), "for the filter, and for each class that it kept"


GAINS = {"cat": 0.3, "dog": -0.1, "car": 0.2, "on grass": 0.1, "at night": 0.05}


class TestOfTheDiffusionModelItself:
    @pytest.fixture
    def known(self, monkeypatch):
        def evidence(pipe, image, texts, **options):
            return torch.tensor([next(g for name, g in GAINS.items() if name in text) for text in texts])

        monkeypatch.setattr(module, "evidence", evidence)

    def test_what_helps_enough_stays_in_its_order(self, known, image):
        assert DiffusionFilter(None, threshold=0.1)(image, CLASSES) == ["cat", "car"]
        assert DiffusionFilter(None, threshold=0.1, most=1)(image, CLASSES) == ["cat"]
        assert DiffusionFilter(None, threshold=9)(image, CLASSES) == ["cat"], "at least one"

    def test_the_text_of_a_class(self, monkeypatch, image):
        read = []
        monkeypatch.setattr(
            module, "evidence", lambda pipe, image, texts: read.extend(texts) or torch.zeros(1)
        )
        DiffusionFilter(None)(image, ["cat"]), DiffusionFilter(None, template="{} at night")(image, ["cat"])
        assert read == ["a photograph of a cat", "a cat at night"]

    def test_a_caption_names_what_helps(self, known, image):
        describe = DiffusionCaptioner(None, CLASSES, places=["at night", "on grass"])
        assert describe(image) == "a cat and a car on grass"
        assert DiffusionCaptioner(None, CLASSES, most=1)(image) == "a cat"
        assert DiffusionCaptioner(None, ["dog"], places=["at night"])(image) == "at night"

    def test_a_caption_does_not_repeat_what_was_said(self, known, image):
        assert DiffusionCaptioner(None, CLASSES)(image, "a photograph of a Cat") == "a car"
        assert DiffusionCaptioner(None, CLASSES)(image, "a cathedral and a scar") == "a cat and a car"

    def test_on_a_model(self, pipe, image):
        kept = DiffusionFilter(pipe, threshold=-10)(image, CLASSES)
        assert kept == CLASSES
        result = ov.segment(
            pipe,
            image,
            CLASSES,
            keep=DiffusionFilter(pipe, most=2),
            caption=DiffusionCaptioner(pipe, CLASSES)(image),
        )
        assert 1 <= len(result.classes) <= 2 and np.isin(result.labels, [0, 1, 2]).all()
