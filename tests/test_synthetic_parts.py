"""The parts of a synthetic set: prompts, label maps, filters, scores and the thresholds that are tuned."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import sd_pipeline
from PIL import Image

import ovamnb as ov
from ovamnb.emoji.scenes import scene
from ovamnb.evaluation.look import Look
from ovamnb.evaluation.methods import Attention, before_crf, needs_crf
from ovamnb.evidence import ClipFilter
from ovamnb.synthesize.agreement import Agreement
from ovamnb.synthesize.filters import FILTERS, Limits, reasons, shares
from ovamnb.synthesize.label_maps import METHODS, areas, label_map
from ovamnb.synthesize.prompts import check_classes, from_captions, from_table, from_templates
from ovamnb.synthesize.tune import choose, load_bands

CLASSES = ("cat", "dog", "elephant", "potted plant")


class TestTemplates:
    def test_classes_and_templates_take_turns(self):
        plans = list(from_templates(CLASSES, 2, ("a photograph of {}", "{} on grass"), seed=7))
        assert [plan.prompt for plan in plans] == [
            *("a photograph of a cat", "a photograph of a dog", "a photograph of an elephant"),
            *("a photograph of a potted plant", "a cat on grass", "a dog on grass", "an elephant on grass"),
            "a potted plant on grass",
        ]
        assert [plan.seed for plan in plans] == list(range(7, 15))
        assert plans[0].name == "cat-00000" and plans[7].name == "potted-plant-00001"
        assert all(plan.classes == (name,) for plan, name in zip(plans, CLASSES * 2, strict=True))

    def test_further_slots_take_other_classes(self):
        plans = list(from_templates(CLASSES, 30, ("{}, {} and {}",)))
        assert all(len({*plan.classes}) == 3 for plan in plans)
        assert all(plan.classes[0] == name for plan, name in zip(plans, CLASSES * 30, strict=True))
        for plan in plans:
            places = [plan.prompt.index(name) for name in plan.classes]
            assert places == sorted(places), "in the order of the sentence"
        second = [plan.classes[1] for plan in plans]
        assert all(second.count(name) > 15 for name in CLASSES), "drawn among all the others"
        whole = next(from_templates(("cat", "dog"), 1, ("{} and {}",)))
        assert whole.prompt == "a cat and a dog" and whole.classes == ("cat", "dog")

    def test_a_longer_list_begins_with_the_shorter_one(self):
        make = partial(from_templates, CLASSES, templates=("{}", "{} and {}"))
        for count in range(1, 4):
            shorter, longer = list(make(count)), list(make(count + 1))
            assert longer[: len(shorter)] == shorter and len({plan.name for plan in longer}) == len(longer)
        assert list(make(3, seed=1)) != list(make(3, seed=2))

    @pytest.mark.parametrize(
        ("template", "why"),
        [
            ("a cat", r"'a cat' has no slot for the class: write \{\}"),
            ("{} and {} and {}", "has 3 slots, and there are only 2 classes"),
            ("{} in {place}", "has braces that are no slot"),
            ("{{}}", "has braces that are no slot"),
        ],
    )
    def test_what_cannot_be_filled_is_refused(self, template, why):
        with pytest.raises(ValueError, match=why):
            list(from_templates(("cat", "dog"), 1, (template,)))

    def test_seeds_that_are_none(self):
        for seed in (-1, 2**63):
            with pytest.raises(ValueError, match="seed is a whole number from 0 on"):
                list(from_templates(CLASSES, 1, seed=seed))


class TestFiles:
    def put(self, path, *lines):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def test_captions(self, tmp_path):
        file = self.put(tmp_path / "c.txt", "A dog beside a cat", "an empty street", "a Potted Plant")
        plans = list(from_captions(CLASSES, 2, file, seed=10))
        assert [(plan.prompt, plan.classes) for plan in plans[:2]] == [
            ("A dog beside a cat", ("cat", "dog")),
            ("a Potted Plant", ("potted plant",)),
        ]
        assert [plan.seed for plan in plans] == [10, 12, 13, 15], "a line without a class keeps its number"
        assert len({plan.name for plan in plans}) == 4 and plans[:2] == list(
            from_captions(CLASSES, 1, file, seed=10)
        )
        with pytest.raises(ValueError, match=r"No line of '.*c.txt' names one of the classes \(car"):
            list(from_captions(("car",), 1, file))
        with pytest.raises(FileNotFoundError, match="give a text file with a caption in each line"):
            list(from_captions(CLASSES, 1, tmp_path / "none.txt"))

    def test_a_table(self, tmp_path):
        file = self.put(
            tmp_path / "p.csv", "seed,classes,prompt", '5,dog; cat;dog,"a cat, a dog"', ",cat,a kitten"
        )
        plans = list(from_table(CLASSES, 2, file, seed=100))
        assert [(plan.prompt, plan.classes, plan.seed) for plan in plans] == [
            ("a cat, a dog", ("dog", "cat"), 5),
            ("a kitten", ("cat",), 101),
            ("a cat, a dog", ("dog", "cat"), 6),
            ("a kitten", ("cat",), 103),
        ]
        assert len({plan.name for plan in plans}) == 4
        without = self.put(tmp_path / "q.csv", "prompt,classes", "a cat,cat")
        assert next(from_table(CLASSES, 1, without, seed=3)).seed == 3

    @pytest.mark.parametrize(
        ("lines", "why"),
        [
            (("prompt,seed", "a cat,1"), r"has no column classes"),
            (("a,b", "1,2"), r"has no column classes and prompt"),
            (("prompt,classes", "a cat,cat", "a car,car"), r"line 3 names 'car', which is none of the"),
            (("prompt,classes", "a cat,"), r"line 2 names no class"),
            (("prompt,classes", '"a\ncat",cat', "a cat, ;"), r"line 4 names no class"),
            (("prompt,classes", ",cat"), r"line 2 has no prompt"),
            (("classes,prompt", "cat"), r"line 2 has no prompt"),
            (("prompt,classes,seed", "a cat,cat,one"), r"line 2: the seed is no whole number: 'one'"),
            (("prompt,classes,seed", "a cat,cat,-1"), r"line 2: the seed is no whole number: '-1'"),
            (("prompt,classes,seed", f"a cat,cat,{2**70}"), r"seed is a whole number from 0 on"),
            (("prompt,classes",), r"has no rows"),
        ],
    )
    def test_tables_that_are_refused(self, tmp_path, lines, why):
        with pytest.raises(ValueError, match=why):
            list(from_table(CLASSES, 1, self.put(tmp_path / "p.csv", *lines)))

    def test_classes(self):
        assert check_classes([" cat", "potted  plant"]) == ("cat", "potted plant")
        assert len(check_classes([f"class {i}" for i in range(254)])) == 254
        for names, why in (
            ([], "no class to draw"),
            (["cat", " "], "no class to draw"),
            (["cat", "dog", "cat "], "Named twice among the classes: cat"),
            (["hot dog", "cat", "Hot-dog"], "same names: hot dog, Hot-dog"),
            ([f"class {i}" for i in range(255)], "holds 254 classes at most, not 255"),
        ):
            with pytest.raises(ValueError, match=why):
                check_classes(names)

    def test_a_class_makes_no_folder(self):
        [plan] = from_templates(("tv/monitor",), 1)
        assert plan.name == "tv-monitor-00000" and plan.prompt == "a photograph of a tv/monitor"


class TestMasks:
    scores = torch.tensor([[[0.9, 0.5, 0.2], [0.1, 0.7, 0.6]], [[0.8, 0.6, 0.2], [0.05, 0.7, 0.95]]])

    def test_by_hand(self):
        found = label_map(self.scores, [7, 3], low=0.2, high=0.65)
        assert found.tolist() == [[7, 255, 0], [0, 7, 3]] and found.dtype == torch.uint8
        assert areas(found, [7, 3, 255]) == pytest.approx([2 / 6, 1 / 6, 1 / 6], abs=1e-6)

    def test_one_threshold_leaves_nothing_out(self):
        generator = torch.Generator().manual_seed(0)
        for threshold in (0.0, 0.3, 1.0):
            found = label_map(torch.rand(3, 8, 5, generator=generator), [1, 2, 254], threshold, threshold)
            assert 255 not in found and found.shape == (8, 5)
        assert not found.any(), "nothing exceeds 1"

    def test_a_crf_after_the_cut_moves_both_thresholds(self):
        pytest.importorskip("pydensecrf", reason="no dense CRF here")
        image = Image.new("RGB", (32, 32), "green")
        image.paste("red", (8, 8, 24, 24))
        scores = torch.zeros(1, 32, 32)
        scores[0, 8:24, 8:24], scores[0, 12:15, 12:15], scores[0, 2, 2] = 0.8, 0.1, 0.9
        found = label_map(scores, [5], 0.3, 0.6, before_crf(scores, image))
        assert found[13, 13] == 5 and found[2, 2] == 0, "a hole is filled and a speck is gone"
        assert label_map(scores, [5], 0.3, 0.6)[2, 2] == 5

    def test_thresholds_out_of_order(self):
        for low, high in ((0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)):
            with pytest.raises(ValueError, match="0 ≤ low ≤ high ≤ 1, not"):
                label_map(self.scores, [1, 2], low, high)


def record_of(name, classes, areas, scores):
    return {"name": name, "classes": classes, "areas": areas, "scores": scores}


def cats(values, *, what):
    """Records of one class that differ in `what` alone."""
    constant = {"areas": [0.5], "scores": [0.5]}
    return [record_of(f"{i}", ["cat"], **constant | {what: [value]}) for i, value in enumerate(values)]


class TestFilters:
    def dropped(self, records, by, *limits):
        found = reasons(records, Limits(*limits))
        assert all({*wrong} <= {by} for wrong in found.values())
        return [name for name, wrong in found.items() if wrong]

    def test_each_alone(self):
        many = [i / 100 for i in range(1, 101)]
        assert self.dropped(cats([0, 0.2, 0, 0.2], what="areas"), "empty") == ["0", "2"]
        outside = [*map(str, range(10)), *map(str, range(90, 100))]
        assert self.dropped(cats(many, what="areas"), "area", 10, 90, 0) == outside
        assert self.dropped(cats(many, what="scores"), "score", 0, 100, 40) == [*map(str, range(40))]
        assert self.dropped(cats([0.3, 0, 0.1, 0.2], what="areas"), "empty", 0, 100, 0) == ["1"]

    def test_of_few_pictures_the_nearest_value_counts(self):
        few = [0.5, 0.4, 0.3, 0.2, 0.1]
        for count in range(1, 6):
            assert not self.dropped(cats(few[:count], what="areas"), ""), "the smallest and the largest stay"
        assert not self.dropped(cats(few[:2], what="scores"), "")
        assert self.dropped(cats(few[:4], what="scores"), "score") == ["3"]
        assert self.dropped(cats(few, what="scores"), "score") == ["4"]

    def test_constants_and_wide_limits_keep_everything(self):
        for what in ("areas", "scores"):
            assert not self.dropped(cats([0.5] * 9, what=what), "")
            assert not self.dropped(cats([0.01, *[0.5] * 90, 1], what=what), "", 0, 100, 0)

    def test_a_class_without_a_pixel(self):
        found = reasons([*cats([0, 0], what="areas"), record_of("dog", ["dog"], [0.1], [0.1])])
        assert found == {"0": ["empty"], "1": ["empty"], "dog": []}

    def test_a_picture_has_to_pass_for_each_of_its_classes(self):
        pairs = [record_of(f"{i}", ["cat", "dog"], [0.5, 0.5], [0.5, 0.5]) for i in range(20)]
        pairs[3] = record_of("3", ["cat", "dog"], [0.5, 0.1], [0.5, 0.1])
        pairs[5] = record_of("5", ["dog", "cat"], [0.5, 0], [0.5, 0.1])
        found = reasons(pairs, Limits(10, 90, 10))
        assert found.pop("3") == ["area", "score"] and found.pop("5") == ["empty", "score"]
        assert not any(found.values())

    def test_limits(self):
        for wrong in ((50, 50, 0), (60, 40, 0), (-1, 95, 0), (5, 101, 0), (5, 95, 100), (5, 95, -1)):
            with pytest.raises(ValueError, match="0 100 and 0 keep everything"):
                Limits(*wrong)

    def test_shares(self):
        found = {"a": [], "b": ["empty", "score"], "c": ["score"], "d": []}
        assert shares(found) == {"empty": 0.75, "area": 1.0, "score": 0.5, "all": 0.5}
        assert tuple(shares(found)) == (*FILTERS, "all")


@pytest.fixture(scope="module")
def looks():
    """Picture 0 and 1 of one batch, and picture 1 by itself."""
    pipe, prompts = sd_pipeline(), ("a cat and a dog on grass", "a dog and a cat")

    def draw(indices):
        generator = [torch.Generator().manual_seed(index) for index in indices]
        options = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "latent"}
        with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as trace:
            latents = pipe([prompts[index] for index in indices], generator=generator, **options).images
        return trace, latents

    (both, first), (alone, second) = draw([0, 1]), draw([1])
    # Sums of float32 in another order: a batch of two is computed otherwise than one picture.
    torch.testing.assert_close(first[1:], second, atol=1e-4, rtol=1e-4)
    image = Image.new("RGB", (16, 16), "grey")
    image.paste("brown", (4, 4, 12, 9))
    other = Look(pipe, image, both, prompts[0], ("cat", "dog"))
    return [other, replace(other, prompt=prompts[1], row=1), replace(other, trace=alone, prompt=prompts[1])]


class TestPicturesOfABatch:
    """A method that is asked about one of several pictures answers as if that had been drawn alone."""

    @pytest.mark.parametrize("name", [name for name in METHODS if "diffsegmenter" not in name])
    def test_words(self, looks, name):
        if needs_crf(name, METHODS):
            pytest.importorskip("pydensecrf", reason="no dense CRF here")
        # A CRF makes certainties of chances, and ten times as much of what the sums differ by.
        crf = name.endswith("crf-mean") or getattr(METHODS[name], "crf", "none") == "soft"
        self.compare(METHODS[name], looks, near=1.9e-2 if crf else 2e-3)

    @pytest.mark.parametrize("together", [False, True])
    def test_tokens(self, looks, together):
        with torch.no_grad():
            states = looks[0].trace.text_of("a cat and a dog").states
        tokens = {
            "cat": ov.Token("cat", states[2], states[:1]),
            "dog": ov.Token("dog", states[5], states[:1]),
        }
        method = Attention(maps="together" if together else "alone", sharpen="completion")
        self.compare(method, [replace(look, tokens=tokens) for look in looks])

    def test_the_mean_of_map_and_crf(self, looks):
        pytest.importorskip("pydensecrf", reason="no dense CRF here")
        two = [METHODS[name](looks[1]) for name in ("ovam+completion", "ovam+completion+soft-crf")]
        mean = METHODS["ovam+completion+crf-mean"](looks[1])
        torch.testing.assert_close(mean, torch.stack(two).mean(dim=0))

    def compare(self, method, looks, near=2e-3):
        other, second, alone = map(method, looks)
        torch.testing.assert_close(second, alone, atol=near, rtol=0)
        assert (second - other).abs().max() > max(0.07, 3 * near), "it is another picture"


class TestAgreement:
    def test_the_bundled_one_knows_what_scenes_show(self):
        score = Agreement.load("bundled")
        names = ("cat", "car", "tree", "boat", "sheep", "bus")
        right = 0
        for seed, name in enumerate(names):
            image = Image.fromarray(scene(seed, count=1, concepts=[name], plain=True).image)
            values = score(image, names)
            right += values[names.index(name)] == max(values)
        assert right >= 5 and score.name == "bundled"

    def test_the_chance_against_not(self, clip, image):
        model, processor = copy.deepcopy(clip[0]), clip[1]
        model.logit_scale.data.fill_(1.0)  # CLIP's own factor makes a certainty of any difference
        score = Agreement(ClipFilter(model, processor), knows_not=True)
        found = score(image, ["cat", "elephant"])
        texts = ["a cat", "not a cat", "an elephant", "not an elephant"]
        inputs = processor(images=image, text=texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            chances = model(**inputs).logits_per_image.view(2, 2).softmax(dim=1)
        assert found == pytest.approx(chances[:, 0].tolist(), abs=1e-5)
        assert all(0 < value < 1 for value in found) and found[0] != found[1]

    def test_the_picture_decides(self, clip, image):
        score = Agreement(ClipFilter(*clip), knows_not=True)
        assert score(image, ["cat"]) != score(255 - image, ["cat"])


class TestBands:
    thresholds = (0.2, 0.5, 0.8)
    # At each threshold: of 100 pixels of background, and of 100 of the object, how many are called which.
    tables = torch.tensor([[[70, 30], [2, 98]], [[90, 10], [10, 90]], [[99, 1], [40, 60]]])

    def test_by_hand(self):
        for left_out, band in (
            (0, (0.5, 0.5)),  # 0.75, 0.82, 0.59
            (0.05, (0.5, 0.5)),  # from 0.2 to 0.5 lie 20 % of the background
            (0.2, (0.2, 0.5)),  # 90 / (90 + 10 + 2); from 0.5 to 0.8 lie 30 % of the object
            (1, (0.2, 0.8)),  # 60 / (60 + 1 + 2)
        ):
            assert choose(self.tables, self.thresholds, left_out) == band

    def test_those_of_the_bundled_model(self, tmp_path):
        bands = load_bands()
        assert bands and all(0 <= low <= high <= 1 for low, high in bands.values())
        with pytest.raises(FileNotFoundError, match=r"synthesize.tune --save .*none.json` writes it"):
            load_bands(tmp_path / "none.json")
