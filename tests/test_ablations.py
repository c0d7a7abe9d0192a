"""What each choice is worth: parts of maps, and the command that varies them."""

import math

import pytest
import torch
from conftest import sd_pipeline, xl_pipeline

import ovamnb as ov
from ovamnb.evaluation import ablate
from ovamnb.evaluation.ablate import (
    Parts,
    ablations,
    cast_to,
    chosen_parts,
    flat,
    head_count,
    in_dtype,
    in_eight_bits,
)
from ovamnb.evaluation.report import read_table
from ovamnb.refine import minmax
from ovamnb.tokens import Token


@pytest.fixture
def look(trace, image):
    from PIL import Image

    return Parts(sd_pipeline(), Image.fromarray(image), trace, "a cat and a dog", ("cat", "dog"))


def scores(trace, image, names, **choices):
    """The same through the public face."""
    return torch.stack(
        [minmax(ov.resize(trace.maps(f"a photograph of a {n}", **choices)[n], image)) for n in names]
    )


class TestParts:
    @pytest.mark.parametrize(
        "choices",
        [
            {},
            {"blocks": (12,)},
            {"steps": [1]},
            {"steps": [0, 2]},
            {"half": "unconditional"},
        ],
    )
    def test_they_add_up_to_the_maps(self, look, trace, image, choices):
        public = {"queries" if name == "half" else name: value for name, value in choices.items()}
        expected = scores(trace, image, ("cat", "dog"), **public)
        assert torch.allclose(chosen_parts(look, **choices), expected, atol=1e-4)

    def test_the_mid_block_stays_out(self, look):
        assert torch.equal(chosen_parts(look, blocks=(6, 12)), chosen_parts(look))

    def test_heads_add_up(self, look):
        [ask, _] = look.asks()
        parts = look.parts(ask)
        whole = look.trace.maps(f"a photograph of a {ask}", blocks=12)[ask]
        fine = [part for name, part in parts.items() if look.trace.blocks[name].grid == (8, 12)]
        assert all(part.shape == (3, 2, 8, 12) for part in fine)
        assert torch.allclose(sum(part.sum(dim=(0, 1)) for part in fine), whole, atol=1e-4)
        one, other = (chosen_parts(look, heads=k) for k in (0, 1))
        assert not torch.allclose(one, other)

    def test_they_are_computed_once(self, look, monkeypatch):
        chosen_parts(look, steps=[0])
        monkeypatch.setattr(Parts, "part", None)
        assert chosen_parts(look, steps=[1]).shape == (2, 16, 24)

    def test_tokens_have_parts_too(self, look, trace, image):
        states = trace.text_of("a cat").states
        tokens = {name: Token(name, states[i + 1], states[:1]) for i, name in enumerate(look.asked)}
        learned = Parts(look.pipe, look.image, trace, look.prompt, look.asked, tokens)
        expected = torch.stack(
            [minmax(ov.resize(trace.maps(token)[name], image)) for name, token in tokens.items()]
        )
        assert torch.allclose(chosen_parts(learned), expected, atol=1e-4)


class TestPrecision:
    def test_eight_bits_lose_less_than_half_a_step(self):
        queries = torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(0)) * 5
        rounded = in_eight_bits(queries)
        step = queries.abs().amax(dim=(-2, -1), keepdim=True) / 127
        assert ((rounded - queries).abs() <= step / 2 + 1e-6).all()
        assert all(len(one.unique()) <= 255 for one in rounded)
        assert torch.equal(in_eight_bits(torch.zeros(1, 2, 2)), torch.zeros(1, 2, 2)), "no division by zero"

    def test_half_precision(self):
        queries = torch.tensor([[[1.0, 1 + 2**-9, 1 + 2**-12]]])
        assert in_dtype(queries, torch.float16).tolist() == [[[1, 1 + 2**-9, 1]]]
        assert cast_to(torch.float16) is cast_to(torch.float16)


def test_settings_follow_the_model():
    groups = ablations(sd_pipeline(), steps=3)
    assert list(groups["blocks"]) == ["8", "4", "4+8"] and list(groups["one step"]) == ["0", "1", "2"]
    assert list(groups["evenly spaced steps"]) == ["1", "2", "3"] and len(groups["one head"]) == 2
    assert "blocks: 4+8" in flat(groups)
    assert head_count(xl_pipeline()) == 2


class TestCommand:
    @pytest.mark.slow
    def test_a_table_of_settings(self, tmp_path, capsys):
        groups = ["blocks", "evenly spaced steps", "precision"]
        few = ["--limit", "1", "--device", "cpu", "--out", str(tmp_path)]
        ablate.main(["--data", "emoji-real", "--groups", *groups, *few])
        rows = read_table(tmp_path / "ablations.csv")
        assert {row["group"] for row in rows} == set(groups)
        assert {row["asked by"] for row in rows} == {"words", "tokens"}
        steps = [row for row in rows if row["group"] == "evenly spaced steps" and row["asked by"] == "words"]
        assert [row["MB"] / steps[0]["MB"] for row in steps] == pytest.approx([1, 2, 3, 4], rel=0.05)
        kept = {row["setting"]: row["MB"] for row in rows if row["group"] == "precision"}
        assert kept["float32"] == pytest.approx(2 * kept["float16"], rel=0.02)
        assert kept["int8"] == pytest.approx(kept["float16"] / 2, rel=0.02)
        blocks = [row["MB"] for row in rows if row["group"] == "blocks"]
        assert all(map(math.isnan, blocks))
        assert "Cheapest within 0.01 of the best" in capsys.readouterr().out

    def test_an_unknown_group_is_named(self, capsys):
        with pytest.raises(SystemExit):
            ablate.main(["--data", "emoji-real", "--groups", "blocs"])
        assert "no group blocs: choose of blocks, one step" in " ".join(capsys.readouterr().err.split())
