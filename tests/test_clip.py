"""The tiny CLIP of emoji scenes, and the settings of DiffSegmenter that are chosen with it."""

import json
import shutil

import pytest
import torch
from shared_fixtures import bundled_pipe

from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import stream
from ovamnb.evidence import ClipFilter
from ovamnb.evidence.clip import CLIP, TABLE, build_clip, load_clip
from ovamnb.pipelines import BUNDLED, load_pipeline
from ovamnb.recipe import SegmentRecipe
from workshop.make import segment_recipe as tune
from workshop.train import clip_training as train_clip


@pytest.fixture(scope="module")
def keep():
    return ClipFilter.load("bundled")


class TestBundled:
    def test_it_finds_what_scenes_show(self, keep):
        right = kept = there = 0
        for picture in stream("test", 40):
            truth = {thing.concept for thing in picture.objects}
            found = set(keep(picture.image, CONCEPTS))
            right, kept, there = right + len(found & truth), kept + len(found), there + len(truth)
        assert right / kept > 0.85 and right / there > 0.75, "measured: see figures.json"

    def test_a_word_that_no_caption_held_comes_near_its_concept(self, keep):
        cats = [picture for picture in stream("test", 120) if picture.mask("cat").any()]
        near = [keep.embed(picture.image, ["a kitten", "a guitar"]) for picture in cats]
        assert sum(bool(texts[0] @ image[0] > texts[1] @ image[0]) for image, texts in near) > 0.8 * len(near)

    def test_the_figures_are_those_of_the_filter(self, keep):
        figures = json.loads((CLIP / "figures.json").read_text())
        assert keep.least == figures["least"] and figures["test"]["precision"] > 0.9

    def test_it_shares_the_word_table_of_the_diffusion_model(self):
        table = load_clip()[0].state_dict()[TABLE]
        torch.testing.assert_close(table, bundled_pipe().text_encoder.get_input_embeddings().weight.float())


def test_without_weights_it_says_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="clip_training"):
        load_clip(tmp_path)


def test_training_writes_what_loads(tmp_path):
    train_clip.train_clip(tmp_path / "out", tmp_path / "run", steps=2, batch=2, device="cpu", workers=0)
    trained, fresh = load_clip(tmp_path / "out")[0].state_dict(), build_clip()[0].state_dict()
    assert trained.keys() == fresh.keys()
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 3e6, "the word table is not stored again"
    figures = train_clip.measure(tmp_path / "out", validation=4, test=4)
    assert -1 <= figures["least"] <= 1 and 0 <= figures["test"]["recall"] <= 1


def test_rates_by_hand():
    found = torch.tensor([[True, True, False], [False, True, False]])
    there = torch.tensor([[True, False, False], [False, True, True]])
    rates = train_clip.rates(found, there)
    assert rates["precision"] == pytest.approx(2 / 3) and rates["recall"] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_tuning_never_ends_below_the_paper_and_leaves_a_recipe(tmp_path, monkeypatch, capsys):
    shutil.copytree(BUNDLED, tmp_path / "model")
    monkeypatch.setattr(tune, "choices", lambda pipe: [[{"timesteps": (300,)}], [{"together": True}]])
    tune.main([str(tmp_path / "model"), "--validation", "2", "--test", "2", "--device", "cpu"])
    figures = json.loads((tmp_path / "model" / "figures.json").read_text())["segmentation"]
    assert figures["validation"]["tuned"] >= figures["validation"]["paper"]
    assert all(row["oracle"] >= row["tuned"] for row in figures["test"].values())
    recipe = SegmentRecipe.of(load_pipeline(tmp_path / "model"))
    assert recipe.background == figures["background"]
    assert "Segmentation" in (tmp_path / "model" / "README.md").read_text()


def test_the_settings_to_try_are_fields_of_a_recipe():
    fields = set(vars(SegmentRecipe()))
    tried = tune.choices(bundled_pipe())
    assert all(tried) and all(set(value) <= fields for values in tried for value in values)


def test_presence_is_a_visible_pixel():
    labels = torch.zeros(2, 6, 9, dtype=torch.uint8)
    labels[1, 2, 3] = 5
    assert train_clip.presence(labels).sum() == 1 and train_clip.presence(labels)[1, 4] == 1
