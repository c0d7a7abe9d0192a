"""The shipped tokens, the oracle that annotated for them, and what was measured."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import ovamnb as ov
from ovamnb.emoji.scenes import scene
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import of_concept
from workshop.make import token_bank
from workshop.measure import token_worth
from workshop.train.oracle import (
    JUDGE,
    TRAINED,
    Oracle,
    load_oracle,
    oracle_miou,
    save_oracle,
    train_oracle,
)


class TestShipped:
    def test_one_for_each_class_for_the_bundled_model(self):
        tokens = ov.load_tokens()
        assert tuple(tokens) == CONCEPTS
        assert all(
            token.model == "bundled" and min(token.losses) < token.losses[0] for token in tokens.values()
        )

    def test_the_bundled_model_takes_them_and_they_find_something(self):
        picture = scene(7, concepts=["cat"], plain=True)
        trace = ov.record_image(ov.load_pipeline(), picture.image, picture.caption)
        heat = ov.resize(trace.maps(ov.load_tokens()["cat"])["cat"], picture.image)
        mask = torch.from_numpy(picture.mask("cat"))
        assert heat[mask].mean() > 1.3 * heat[~mask].mean()

    def test_the_figures_are_of_the_whole_table(self):
        figures = json.loads(token_worth.FIGURES.read_text())
        assert tuple(sorted(figures["miou"])) == tuple(sorted(token_worth.ASKED))
        for how, by_objects in figures["miou"].items():
            for rows in by_objects.values():
                assert all(
                    len(v) == (token_worth.ANNOTATIONS if how in ("token", "start only") else 1)
                    for v in rows.values()
                )

    def test_what_the_readme_and_chapter_04_say_of_them(self):
        found = {
            how: {
                objects: {row: np.mean(v) for row, v in rows.items()} for objects, rows in by_objects.items()
            }
            for how, by_objects in json.loads(token_worth.FIGURES.read_text())["miou"].items()
        }
        for objects in ("1 object(s)", "2 object(s)"):
            word, token, start, mean = (
                found[how][objects] for how in ("word", "token", "start only", "average of five")
            )
            assert all(start[row] < token[row] < mean[row] for row in word)
            for row in word:
                plain = row in ("OVAM", "DAAM", "Attn2Mask, no CRF")
                if objects == "2 object(s)":
                    assert token[row] < word[row] and (mean[row] > word[row]) == plain
                elif plain:
                    assert word[row] < token[row]
                else:
                    assert abs(word[row] - mean[row]) < 0.015
        one = "1 object(s)"
        assert found["start only"][one]["DAAM"] < found["word"][one]["DAAM"]


class TestOracle:
    def test_a_label_for_every_pixel(self):
        labels = Oracle().labels(Image.fromarray(scene(1, size=(64, 96)).image))
        assert labels.shape == (64, 96) and labels.min() >= 0 and labels.max() <= len(CONCEPTS)

    def test_it_learns_and_resumes(self, tmp_path):
        first = train_oracle(tmp_path, steps=(1, 1), batch=2, device="cpu")
        again = train_oracle(tmp_path, steps=(1, 1), batch=2, device="cpu")
        assert all(a.equal(b) for a, b in zip(first.parameters(), again.parameters(), strict=True))

    def test_two_seeds_share_neither_first_weights_nor_scenes(self, tmp_path):
        one, other = (
            train_oracle(tmp_path / str(seed), steps=(1, 1), batch=2, seed=seed, device="cpu")
            for seed in (0, 1)
        )
        same = [a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True) if a.ndim > 1]
        assert not any(same)  # of the biases and norms, which all begin alike, some have hardly moved

    @pytest.mark.parametrize(("weights", "least"), [(TRAINED, 0.7), (JUDGE, 0.8)])
    def test_those_in_the_repository_know_scenes(self, weights, least):
        assert oracle_miou(load_oracle(weights, device="cpu"), count=20) > least  # on 200, .94 and .97

    def test_without_weights_it_says_how_to_get_them(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"python -m workshop.train.oracle"):
            load_oracle(tmp_path / "none.safetensors")

    def test_what_is_saved_loads(self, tmp_path):
        oracle = Oracle()
        save_oracle(oracle, tmp_path / "oracle.safetensors")
        again = load_oracle(tmp_path / "oracle.safetensors", device="cpu")
        for mine, other in zip(oracle.parameters(), again.parameters(), strict=True):
            assert torch.allclose(mine, other, atol=1e-3)

    def test_an_annotation_is_neither_a_speck_nor_everything(self):
        class Sure:
            """Gives one share of the picture to the cat."""

            def __init__(self, rows):
                self.rows = rows

            def __call__(self, images):
                logits = torch.zeros(1, len(CONCEPTS) + 1, 64, 64)
                logits[:, 0] = 1.0
                logits[:, CONCEPTS.index("cat") + 1, : self.rows] = 3.0
                return logits

        image = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
        certainty, mask = token_bank.annotation(Sure(16), image, "cat")
        assert mask.sum() == 16 * 64 and 0.3 < certainty < 1
        assert token_bank.annotation(Sure(1), image, "cat")[0] == 0
        assert token_bank.annotation(Sure(64), image, "cat")[0] == 0
        assert token_bank.annotation(Sure(16), image, "dog")[0] == 0


@pytest.mark.parametrize("objects", [1, 2])
def test_scenes_of_a_concept(objects):
    pictures = of_concept("tokens", "cat", 2, objects)
    assert len(pictures) == 2 and not np.array_equal(pictures[0].image, pictures[1].image)
    assert all(len(p.objects) == objects and "cat" in [t.concept for t in p.objects] for p in pictures)


@pytest.mark.slow
def test_the_measurement_runs_and_keeps_its_rows(monkeypatch, tmp_path, capsys):
    pytest.importorskip("pydensecrf", reason="no dense CRF here")
    monkeypatch.setattr(token_worth, "CONCEPTS", ("cat",))
    monkeypatch.setattr(token_worth, "ANNOTATIONS", 1)
    out = tmp_path / "tokens.json"
    few = ["--validation", "1", "--test", "1", "--out", str(out)]
    token_worth.main(["--ask", "word", "token", "mask", *few])
    table = json.loads(out.read_text())["miou"]
    assert set(table) == {"word", "token", "mask"} and set(table["word"]) == {"1 object(s)", "2 object(s)"}
    assert table["mask"]["1 object(s)"]["OVAM"][0] > 0.9, "the exact mask, on the maps' grid"
    assert "DAAM" in table["token"]["1 object(s)"] and "DAAM" not in table["mask"]["1 object(s)"]
