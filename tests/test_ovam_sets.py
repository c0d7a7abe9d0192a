"""The OVAM authors' sets, in their layout: every picture, asked as they ask, and an evaluation on them."""

from collections import Counter

import numpy as np
import pytest
import torch
from ovam_sets import GROUNDS, SHOWN, cap, drawn, rendered, sim, tokens
from shared_fixtures import bundled_pipe

from ovamnb.data import DATA, EARLIER, load_data
from ovamnb.data.folders import OVAMCap, OVAMSim
from ovamnb.data.pascal import VOC_CLASSES
from ovamnb.evaluation.metrics import iou
from ovamnb.evaluation.run import Evaluation
from ovamnb.evaluation.split import Split
from ovamnb.text import TextEncoder
from ovamnb.tokens import load_tokens

SETS = {"ovam-voc-sim": sim, "ovam-coco-cap": cap}


@pytest.fixture(scope="module")
def pictures():
    return rendered(each=2)


@pytest.mark.parametrize("name", SETS)
class TestEveryPicture:
    def test_all_is_both_splits(self, name, pictures, tmp_path):
        root = SETS[name](tmp_path / "set", pictures)
        every = load_data(name, split="all", root=root)
        parts = [load_data(name, split=split, root=root).names for split in ("validation", "test")]
        assert len(every) == len(pictures) and list(every.names) == sorted([*parts[0], *parts[1]])

    def test_names_masks_and_seeds_come_back(self, name, pictures, tmp_path):
        found = list(load_data(name, split="all", root=SETS[name](tmp_path / "set", pictures)))
        shown = Counter(VOC_CLASSES[label - 1] for example in found for label in example.present())
        assert shown == dict.fromkeys(SHOWN, 2), "each class's two; of a dining table there is none"
        given = {(p.name, p.seed): p for p in pictures}
        for example in found:
            [label] = example.present()
            picture = given[VOC_CLASSES[label - 1], example.seed]
            assert np.array_equal(example.labels == label, picture.mask)
            assert not set(np.unique(example.labels)) - {0, label}, "every pixel counts"
            assert (example.prompt, example.image) == (picture.prompt, picture.image)

    def test_the_earlier_name_is_the_same_set(self, name, pictures, tmp_path):
        root = SETS[name](tmp_path / "set", pictures[:2])
        [earlier] = [old for old, new in EARLIER.items() if new == name]
        both = [load_data(each, split="all", root=root) for each in (name, earlier)]
        assert earlier not in DATA and type(both[0]) is type(both[1]) and both[0].names == both[1].names

    def test_the_usual_places(self, name, pictures, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        [earlier] = [old for old, new in EARLIER.items() if new == name]
        with pytest.raises(FileNotFoundError, match=rf"data.{name}' is not there: .* into data/{name} or"):
            load_data(name)
        SETS[name](tmp_path / "data" / earlier, pictures[:1])
        assert len(load_data(name, split="all")) == 1
        SETS[name](tmp_path / "data" / name, pictures[:3])
        assert len(load_data(name, split="all")) == 3, "its own name goes first"

    def test_the_table_may_lie_two_folders_up(self, name, pictures, tmp_path):
        root = tmp_path / "evaluation" / "ovam" / "set"
        pictures = [type(p)(**{**vars(p), "prompt": f"one {p.name}"}) for p in pictures[:3]]
        SETS[name](root, pictures, table=tmp_path / "evaluation" / DATA[name].table)
        assert {e.prompt for e in load_data(name, split="all", root=root)} == {p.prompt for p in pictures}

    def test_seeds_are_not_only_of_a_cpu(self, name):
        assert DATA[name].noise == ("cuda", "mps", "cpu")
        for seed in (4_136_900_885, 2**32 - 1):  # as theirs are
            torch.Generator().manual_seed(seed)


class TestOtherSets:
    @pytest.mark.parametrize("name", [name for name in DATA if name not in SETS])
    def test_they_have_two_splits(self, name, tmp_path):
        whole = "ovam-voc-sim and ovam-coco-cap only"
        with pytest.raises(ValueError, match=rf"validation and test, not 'all'\. Every picture .* {whole}"):
            load_data(name, split="all", root=tmp_path)
        assert DATA[name].noise == ("cpu",)

    def test_a_fourth_split_there_is_nowhere(self, tmp_path):
        with pytest.raises(ValueError, match=r"splits are validation, test and all, not 'train'\.$"):
            load_data("ovam-voc-sim", split="train", root=tmp_path)


class TestQuestions:
    def test_of_the_authors(self, pictures, tmp_path):
        for name, kind, text in (
            ("ovam-voc-sim", OVAMSim, "A photograph of a {}"),
            ("ovam-coco-cap", OVAMCap, "{}"),
        ):
            data = load_data(name, split="all", root=SETS[name](tmp_path / name, pictures[:1]))
            asked = {each: data.question(each) for each in kind.classes}
            assert [question[0] for question in asked.values()] == [text.format(c) for c in VOC_CLASSES]
            assert asked["aeroplane"][1] == "aeroplane"
            assert asked["dining table"][1] == "table" and asked["potted plant"][1] == "plant"
            assert {c for c, (_, word) in asked.items() if c != word} == {"dining table", "potted plant"}

    def test_of_the_others(self):
        data = load_data("emoji-real")
        assert data.question("aeroplane") == ("a photograph of an aeroplane", "aeroplane")
        assert data.question("potted plant") == ("a photograph of a potted plant", "potted plant")

    def test_a_word_in_place_of_the_class(self):
        data = load_data("emoji-real")
        data.words, data.ask = {"tv": "monitor"}, "a photograph of {word}"
        assert data.question("tv") == ("a photograph of monitor", "monitor")

    @pytest.mark.parametrize("name", DATA)
    def test_the_word_stands_in_the_text(self, name):
        kind = DATA[name]
        for each in kind.classes:
            text, word = kind.question(kind, each)
            assert word.lower() in text.lower()

    def test_a_text_encoder_finds_it_there(self):
        text, word = OVAMSim.question(OVAMSim, "potted plant")
        found = TextEncoder.of(bundled_pipe()).read(text)
        assert found.find(word) == [[len(found.tokens) - 2]], "the last before the end token"


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_an_evaluation_of_every_picture(name, tmp_path, monkeypatch):
    monkeypatch.setattr(OVAMSim, "steps", 6)
    shown = ("cat", "potted plant")
    some = drawn(bundled_pipe(), shown, each=2, captions=name == "ovam-coco-cap")
    assert all(0.01 < picture.mask.mean() < 0.9 for picture in some)
    assert name == "ovam-voc-sim" or {p.prompt.partition(p.name + " ")[2] for p in some} == {*GROUNDS}
    data = load_data(name, split="all", root=SETS[name](tmp_path / "set", some))
    asked_with = load_tokens(tokens(tmp_path / "tokens.safetensors"))
    Evaluation(bundled_pipe(), ["ovam", "ovam:token"], asked_with, quiet=True).run(data, tmp_path / "all")
    split = Split(tmp_path / "all")
    assert len(split.pictures) == 4 and split.classes == VOC_CLASSES and not split.missing
    for row in ("ovam", "ovam:token"):
        scores = iou(split.total(row, split.thresholds.index(0.4)))[1:]
        found = {VOC_CLASSES[k] for k, score in enumerate(scores.tolist()) if score == score}
        assert found == {*shown}, "a class without a picture has no score"
        assert max(split.sweep(row)) > 0.4
