"""The little world's data sets: rendered scenes, and pictures that the bundled model draws."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_fixtures import bundled_pipe

from ovamnb.data import emoji_sets as sets
from ovamnb.data import load_data
from ovamnb.data.base import SPLITS
from ovamnb.data.on_disk import IGNORED
from ovamnb.emoji.sprites import CONCEPTS, STYLES, UNSEEN
from ovamnb.emoji.streams import STREAMS, of_concept
from ovamnb.evaluation.run import Evaluation
from workshop.make import label_sets
from workshop.train.oracle import without_borders


@pytest.mark.parametrize("name", ["emoji-real", "emoji-unseen", "emoji-sim", "emoji-cap"])
def test_every_example_is_whole_and_in_one_split(name):
    splits = [load_data(name, split=split) for split in SPLITS]
    examples = [list(data) for data in splits]
    chosen, reported = (
        {(e.prompt, e.seed) if e.seed is not None else e.image.tobytes() for e in part} for part in examples
    )
    assert not chosen & reported, "what thresholds are chosen on is not tested on"
    for data, part in zip(splits, examples, strict=True):
        assert data.classes == CONCEPTS and len(set(data.names)) == len(data) == len(part)
        assert all(example.present() for example in part)
    shown = {label for example in examples[1] for label in example.present()}
    assert len(shown) >= 20, "most classes come up"


def test_rendered_scenes_stay_the_same():
    data = load_data("emoji-real", split="test")
    assert data.names[:3] == ("aeroplane-1", "aeroplane-2", "aeroplane-3")
    assert [len(data[i].present()) for i in range(3)] == [1, 2, 3]
    assert data[5].image.tobytes() == load_data("emoji-real", split="test")[5].image.tobytes()


class TestUnseen:
    SOME = range(0, len(CONCEPTS) * 2, 5)  # of each split; scenes of one, two and three objects

    def test_scenes_are_as_many_and_as_full_and_stay_the_same(self):
        real, unseen, again = map(load_data, ("emoji-real", "emoji-unseen", "emoji-unseen"))
        assert real.names == unseen.names
        digest = hashlib.sha256()
        for i in self.SOME:
            example = unseen[i]
            assert len(example.present()) == len(real[i].present()) == i % 3 + 1
            assert i // 3 + 1 in example.present() and example.image.tobytes() == again[i].image.tobytes()
            digest.update(example.labels.tobytes())
        assert digest.hexdigest()[:16] == "8710a332ea61a2ba"

    def test_every_object_is_in_the_unseen_style_and_every_scene_its_own(self, monkeypatch):
        drawn = {}

        def noting(name, concept, count, *rest, **options):
            pictures = of_concept(name, concept, count, *rest, **options)
            drawn.setdefault(name, []).extend(pictures)
            return pictures

        monkeypatch.setattr(sets, "of_concept", noting)
        for name in ("emoji-real", "emoji-unseen"):
            for split in SPLITS:
                data = load_data(name, split=split)
                assert all(data[i].present() for i in self.SOME)
        assert drawn.keys() == {*SPLITS, "unseen-validation", "unseen-test"}
        assert [STREAMS.index(f"unseen-{split}") for split in SPLITS] == [10, 11], "append only"
        shown = {name: {t.style for p in pictures for t in p.objects} for name, pictures in drawn.items()}
        assert all(shown[split] == {*STYLES} and shown[f"unseen-{split}"] == {*UNSEEN} for split in SPLITS)
        assert "nothing here was trained on" in load_data("emoji-unseen").truth


class TestDrawn:
    def test_the_judge_is_trusted_as_far_as_it_was_measured(self):
        for name, plans in label_sets.PLANS.items():
            index = json.loads((sets.FOLDER / f"{name}.json").read_text())
            assert index["judge"]["rendered"] >= 0.96, "on held-out scenes, outlines left out"
            assert f"{index['judge']['rendered']:.3f}" in load_data(name).truth
            dropped = [one for split in SPLITS for one in index["dropped"][split]]
            kept = [row["name"] for row in index["pictures"]]
            assert sorted(kept + dropped) == sorted(plan["name"] for plan in plans())
        readme = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
        rendered, drawn = (f"{index['judge'][k]:.3f}"[1:] for k in ("rendered", "reconstructed"))
        assert f"mIoU {rendered} on held-out rendered scenes, {drawn} on the same" in readme

    def test_it_is_not_the_one_that_annotated_for_the_tokens(self):
        from safetensors.torch import load_file

        from workshop.train.oracle import JUDGE, TRAINED

        judge, annotator = load_file(JUDGE), load_file(TRAINED)
        assert all(not torch.equal(judge[name], annotator[name]) for name in judge if judge[name].ndim > 1)

    def test_enough_pictures_of_one_and_of_two_named_classes(self):
        simple, captioned = (load_data(name) for name in ("emoji-sim", "emoji-cap"))
        assert len(captioned) >= 150
        for data in (simple, captioned):
            asked = [len(example.present()) for example in data]
            assert min(asked.count(1), asked.count(2)) >= 50

    def test_what_is_left_out_is_counted(self):
        data = load_data("emoji-cap")
        named = [(example.named, example.present(), example.unnamed()) for example in data]
        missing = sum(len(set(names) - {*present}) for names, present, _ in named)
        assert f"; {missing} named classes are missing" in data.truth and missing
        assert any(unnamed for *_, unnamed in named) and all(set(p) <= {*n} for n, p, _ in named)

    def test_captions_name_classes_or_do_not(self):
        from ovamnb.plumbing.english import mentions

        data = load_data("emoji-cap")
        named = [mentions(e.prompt, CONCEPTS[k - 1]) for e in data for k in e.present()]
        assert 0.05 < 1 - np.mean(named) < 0.5

    @pytest.mark.slow
    def test_the_model_draws_the_picture_that_was_labelled(self):
        pipe, data = bundled_pipe(), load_data("emoji-sim")
        plan = Evaluation(pipe, ["ovam"])
        image, trace = plan.draw(data, 0, data[0])
        assert trace.affinities and image.size == (128, 128)
        with pytest.raises(ValueError, match="drew another picture for 'test-"):
            data.verify(1, image)


class TestLabelling:
    def test_outlines_do_not_count(self):
        labels = torch.zeros(5, 6, dtype=torch.int64)
        labels[:, 3:] = 2
        assert without_borders(labels)[0].tolist() == [0, 0, IGNORED, IGNORED, 2, 2]

    def test_all_that_is_seen_stays_and_specks_do_not_count(self):
        class Judge:
            def labels(self, image):
                labels = torch.zeros(40, 40, dtype=torch.int64)
                labels[:20, :20], labels[30:, 30:], labels[0, -1] = 1 + CONCEPTS.index("cat"), 1, 3
                return labels

        image = Image.new("RGB", (40, 40))
        found = label_sets.labelled(Judge(), image, ["cat", "bird"])
        assert set(np.unique(found)) == {0, 1, 1 + CONCEPTS.index("cat"), IGNORED}
        assert found[35, 35] == 1 and found[5, 5] == 1 + CONCEPTS.index("cat")
        assert found[0, -1] == IGNORED and label_sets.labelled(Judge(), image, ["dog"]) is None

    def test_pictures_are_drawn_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(label_sets, "STEPS", 1)
        pipe = bundled_pipe()
        plan = next(label_sets.simple_plans())
        first = label_sets.drawn(pipe, plan, tmp_path)
        assert label_sets.drawn(None, plan, tmp_path).tobytes() == first.tobytes()

    def test_plans_never_share_a_seed(self):
        from workshop.make.token_bank import MOST

        plans = [*label_sets.simple_plans(), *label_sets.captioned_plans()]
        seeds = [plan["seed"] for plan in plans]
        assert len(set(seeds)) == len(seeds) and min(seeds) > MOST, "nor one with the shipped tokens"
