"""Tokens and their files: written, read, refused; asked in maps and in other methods."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import generate, sd_pipeline
from safetensors.torch import save_file
from test_optimize import box

import ovamnb as ov
from ovamnb import published
from ovamnb.baselines import attn2mask, daam, middle_step
from ovamnb.tokens import average, put_in

NAMES = ("cat", "dining-table", "tv")
VOC = Path(__file__).parents[2] / "shared" / "data" / "ovam_voc_tokens_sd15.safetensors"


@pytest.fixture(scope="module")
def token(trace):
    return ov.optimize_token(trace, box(), init="cat", evaluations=6)


class TestFiles:
    def test_back_as_it_was(self, trace, token, tmp_path):
        token.save(tmp_path / "cat.safetensors")
        back = ov.Token.load(tmp_path / "cat.safetensors")
        assert back.word == "cat" and back.model == token.model and back.settings == dict(token.settings)
        assert back.losses == pytest.approx(token.losses, abs=1e-5)
        assert trace.maps(back)["cat"].equal(trace.maps(token)["cat"])

    def test_a_bank_is_read_by_word(self, token, tmp_path):
        dog = ov.Token("dog", token.class_ + 1, token.background)
        ov.save_tokens([token, dog], tmp_path / "bank.safetensors")
        assert list(ov.load_tokens(tmp_path / "bank.safetensors")) == ["cat", "dog"]
        assert ov.Token.load(tmp_path / "bank.safetensors", "dog").class_.equal(dog.class_)
        with pytest.raises(ValueError, match="say which by `word=`: cat, dog"):
            ov.Token.load(tmp_path / "bank.safetensors")
        with pytest.raises(ValueError, match="none is called 'cow'"):
            ov.Token.load(tmp_path / "bank.safetensors", "cow")

    @pytest.mark.parametrize("shape", [(2, 16), (16,)])
    def test_a_plain_array(self, trace, token, tmp_path, shape):
        pair = torch.stack([token.start, token.class_])
        np.save(tmp_path / "cat.npy", (pair if shape == (2, 16) else pair[1]).numpy())
        loaded = ov.Token.load(tmp_path / "cat.npy")
        assert loaded.word == "cat" and (loaded.start is None) == (shape == (16,))
        # A vector that came alone takes the model's own start token, which this pair has, too.
        torch.testing.assert_close(
            trace.maps(loaded)["cat"], trace.maps(ov.Token("cat", token.class_, token.background[:1]))["cat"]
        )

    def test_an_array_that_is_no_token(self, tmp_path):
        np.save(tmp_path / "three.npy", np.zeros((3, 16)))
        with pytest.raises(ValueError, match=r"vector \(dim,\) or a pair"):
            ov.Token.load(tmp_path / "three.npy")

    def test_pickles_are_not_opened(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "boom",))

        np.save(tmp_path / "bank.npy", np.array({"cat": Bomb()}), allow_pickle=True)
        (tmp_path / "bank.pt").write_bytes(pickle.dumps(Bomb()))
        for name in ("bank.npy", "bank.pt"):
            with pytest.raises(ValueError, match="can run any code"):
                ov.load_tokens(tmp_path / name)
        assert not (tmp_path / "boom").exists()

    def test_two_tokens_of_one_word_are_not_one_file(self, token, tmp_path):
        other = ov.Token("cat", token.class_ + 1, token.background)
        with pytest.raises(ValueError, match=r"have the same word \(cat\)"):
            ov.save_tokens([token, other], tmp_path / "bank.safetensors")
        assert not list(tmp_path.iterdir())

    def test_tokens_of_two_models_are_not_one_file(self, token, tmp_path):
        changed = {name: values + 1 for name, values in token.fingerprint.items()}
        for other in (
            ov.Token("dog", token.class_, fingerprint=changed),
            ov.Token("dog", torch.ones(17)),
        ):
            with pytest.raises(ValueError, match="'cat' and 'dog' are of different models"):
                ov.save_tokens([token, other], tmp_path / "bank.safetensors")

    def test_what_is_no_list_of_tokens(self, token, tmp_path):
        for wrong in (None, "cat", [token, "dog"]):
            with pytest.raises(TypeError, match=r"a list of tokens|is a Token"):
                ov.save_tokens(wrong, tmp_path / "bank.safetensors")
            with pytest.raises(TypeError, match=r"a list of tokens|is a Token"):
                average(wrong)
        with pytest.raises(ValueError, match="no token to save"):
            ov.save_tokens([], tmp_path / "bank.safetensors")
        with pytest.raises(TypeError, match="word is a token's name"):
            ov.Token.load(tmp_path / "bank.safetensors", 3)

    @pytest.mark.parametrize(
        "array", [np.zeros(0), np.zeros(()), np.array(["cat"]), np.full(16, np.nan), np.zeros((2, 0))]
    )
    def test_arrays_that_hold_no_token(self, tmp_path, array):
        np.save(tmp_path / "cat.npy", array)
        with pytest.raises((ValueError, TypeError), match=r"a vector|of numbers|not finite|has the shape"):
            ov.load_tokens(tmp_path / "cat.npy")

    def test_empty_files(self, tmp_path):
        (tmp_path / "cat.npy").touch()
        save_file({}, tmp_path / "cat.safetensors")
        for name in ("cat.npy", "cat.safetensors"):
            with pytest.raises(ValueError, match="is damaged"):
                ov.load_tokens(tmp_path / name)

    def test_no_file_and_a_damaged_one(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file of tokens"):
            ov.load_tokens(tmp_path / "none.safetensors")
        for name in ("bad.safetensors", "bad.npy"):
            (tmp_path / name).write_bytes(b"\x93NUMPY nonsense")
            with pytest.raises(ValueError, match=r"damaged|pickle"):
                ov.load_tokens(tmp_path / name)

    def test_published_tokens_are_read_without_running_their_pickle(self, tmp_path, monkeypatch):
        """A file of the layout of the authors', made of random numbers, and one that would do harm."""

        class Bomb:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "boom",))

        vectors = {
            name: np.random.default_rng(i).normal(size=16).astype("f4") for i, name in enumerate(NAMES)
        }
        kinds = (
            (vectors, 3),
            (vectors | {"bomb": Bomb()}, 3),
            (vectors, 4),
        )  # theirs has protocol 3
        for number, (content, protocol) in enumerate(kinds):
            path = tmp_path / f"{number}.npy"
            with open(path, "wb") as file:
                header = {"descr": "|O", "fortran_order": False, "shape": ()}
                np.lib.format.write_array_header_1_0(file, header)
                pickle.dump(np.array(content, object), file, protocol)
            assert path.read_bytes()[:10] == b"\x93NUMPY\x01\x00v\x00", "as theirs begins"
            found = published.vectors_in(path.read_bytes())
            assert list(found) == list(NAMES) and all(
                np.array_equal(found[name], vectors[name]) for name in NAMES
            )
        assert not (tmp_path / "boom").exists()

        known = hashlib.sha256((tmp_path / "0.npy").read_bytes()).hexdigest()
        source = published.Published((tmp_path / "0.npy").as_uri(), known, "sd15")
        monkeypatch.setitem(published.PUBLISHED, "voc-sd15", source)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
        with pytest.raises(
            FileNotFoundError, match=r"cannot be fetched \(HF_HUB_OFFLINE is set\): bring the file"
        ):
            ov.load_tokens("voc-sd15")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        tokens = ov.load_tokens("voc-sd15")
        assert list(tokens) == ["cat", "dining table", "tv"] and tokens["tv"].model == "sd15"
        assert list(ov.load_tokens(Path("voc-sd15"))) == list(tokens), "as commands ask"
        kept = published.fetched(source)
        (tmp_path / "0.npy").unlink()
        assert list(ov.load_tokens("voc-sd15")) == list(tokens), "fetched once"
        kept.write_bytes(b"another")
        with pytest.raises(ValueError, match=r"is not the file at .*: delete it"):
            ov.load_tokens("voc-sd15")
        kept.unlink()
        (tmp_path / "0.npy").write_bytes(b"another")
        with pytest.raises(ValueError, match="is not the one that was published"):
            ov.load_tokens("voc-sd15")

    @pytest.mark.skipif(not VOC.is_file(), reason="the authors' tokens are not here")
    def test_the_authors_tokens(self, trace):
        tokens = ov.load_tokens(VOC)
        assert len(tokens) == 20 and tokens["dining table"].class_.shape == (768,)
        with pytest.raises(ValueError, match="has dim 768, and this model's text states 16"):
            trace.maps(tokens["cat"])

    def test_vectors_by_their_words(self, trace, token, tmp_path):
        save_file({"potted-plant": token.class_.clone()}, tmp_path / "foreign.safetensors")
        assert trace.maps(ov.load_tokens(tmp_path / "foreign.safetensors")["potted plant"])[
            "potted plant"
        ].shape


class TestModels:
    def test_another_model_is_refused(self, token):
        pipe = sd_pipeline()
        pipe.unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2.to_k.weight.data.mul_(1.1)
        with ov.record(pipe, dtype=torch.float32) as other:
            generate(pipe, height=16, width=24)
        with pytest.raises(ValueError, match="another model"):
            other.maps(token)
        with pytest.raises(ValueError, match="another model"):
            ov.segment(pipe, np.zeros((16, 24, 3), np.uint8), [token])
        with pytest.raises(ValueError, match="different models"):
            average([token, ov.optimize_token(other, box(), init="cat", evaluations=1)])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_the_same_model_in_half_precision_is_not(self, token, dtype):
        pipe = sd_pipeline().to(dtype)
        with ov.record(pipe) as rounded:
            generate(pipe, height=16, width=24)
        assert rounded.maps(token)["cat"].shape == (8, 12)

    def test_a_trace_remembers_its_model_and_its_image(self, trace, tmp_path):
        trace.save(tmp_path / "trace.safetensors")
        back = ov.Trace.load(tmp_path / "trace.safetensors")
        assert back.model == trace.model and back.image_size == trace.image_size == (16, 24)


class TestAsking:
    def test_several_tokens_compete(self, trace, token):
        dog = ov.Token("dog", token.class_ + 0.1, token.background)
        alone, both = trace.maps(token)["cat"], trace.maps([token, dog])["cat"]
        assert (both < alone).all()
        with pytest.raises(TypeError, match="not of both"):
            trace.maps([token, "dog"])

    def test_without_a_start_and_without_an_encoder(self, trace, token, tmp_path):
        trace.save(tmp_path / "trace.safetensors", text_encoder=False)
        silent = ov.Trace.load(tmp_path / "trace.safetensors")
        assert silent.maps(token)["cat"].equal(trace.maps(token)["cat"])
        with pytest.raises(ValueError, match="came without a start vector"):
            silent.maps(ov.Token("cat", token.class_))

    def test_the_mean_of_tokens(self, token):
        other = ov.Token("cat", token.class_ + 3, token.background + 1, fingerprint=token.fingerprint)
        torch.testing.assert_close(average([token, other]).class_, token.class_ + 1)
        assert average([token, other]).settings["average of"] == 2
        with pytest.raises(ValueError, match="no token"):
            average([])

    def test_daam_by_hand(self, trace, token):
        """Padded text, every head's and layer's map, bicubic, cut at zero, the mean."""
        text = trace.text_encoder.encode("a cat on grass", padded=True)
        assert len(text.states) == 20 and text.tokens[-1] == "padding"
        [[place]] = text.find("cat")
        total, heads = 0, 0
        for name, block in trace.blocks.items():
            if name.startswith("mid_block"):
                continue
            queries = trace.queries["conditional"][name][:, 0].float()
            key = text.states.float() @ trace.key_weights[name][:-1] + trace.key_weights[name][-1]
            for h in range(block.heads):
                part = slice(h * 4, h * 4 + 4) if block.grid == (8, 12) else slice(h * 8, h * 8 + 8)
                scores = block.scale * queries[..., part] @ key[:, part].T
                heat = scores.softmax(-1)[..., place].sum(0).unflatten(0, block.grid)
                up = torch.nn.functional.interpolate(heat[None, None], (8, 12), mode="bicubic")[0, 0]
                total, heads = total + up, heads + 1
        torch.testing.assert_close(daam(trace, "a cat on grass", "cat"), total / heads, atol=1e-5, rtol=1e-3)
        assert not daam(trace, "a cat on grass", token).allclose(daam(trace, "a cat on grass", "cat"))
        with pytest.raises(KeyError, match="No word 'dog'"):
            daam(trace, "a cat on grass", "dog")

    def test_attn2mask_takes_the_middle_step(self, trace, token):
        heat = trace.maps("a cat on grass", steps=1)["cat"]
        heat = (heat - heat.min()) / (heat.max() - heat.min())
        scores = attn2mask(trace, "a cat on grass", "cat")
        torch.testing.assert_close(scores, torch.stack([0.8 - heat, heat]))
        assert attn2mask(trace, token).argmax(0).sum() <= attn2mask(trace, token, beta=0.2).argmax(0).sum()

    def test_a_token_does_not_compete_with_itself(self, trace, token):
        """In place of a word of several sub-tokens it is one vector, and the text gets no longer."""
        text = trace.text_encoder.encode("a kitten and a cat", padded=True)
        [kitten], [cat] = text.find("kitten"), text.find("cat")
        assert len(kitten) > 1 == len(cat)
        states, (one, moved) = put_in(text.states, [kitten, cat], [token, None])
        assert one == kitten[:1] and states.shape == text.states.shape
        assert states[one[0]].equal(token.anchored(text.states[0]))
        assert moved == [cat[0] - len(kitten) + 1] and states[moved[0]].equal(text.states[cat[0]])
        assert states[-1].equal(text.states[-1])
        # Of three steps a softmax gives each of three copies one at most; one strong vector gets more.
        strong = ov.Token("kitten", 100 * token.class_, 100 * token.background)
        assert len(kitten) == len(trace.steps) == 3
        assert daam(trace, "a kitten and a cat", strong).max() > 1.5

    def test_attn2mask_takes_the_middle_of_the_chain(self, pipe, tmp_path):
        def recorded(steps):
            with ov.record(pipe, steps=steps) as trace:
                generate(pipe, steps=21)
            return trace

        whole, part = recorded(None), recorded((0, 1, 2, 10))
        assert middle_step(whole) == middle_step(part) == 10
        assert torch.equal(attn2mask(whole, "a cat"), attn2mask(part, "a cat"))
        with pytest.raises(
            ValueError, match=r"the step in the middle, 10 of 21, and those recorded are 0 to 3"
        ):
            attn2mask(recorded(range(4)), "a cat")
        with pytest.raises(ValueError, match=r"record it, too, by `ov.record\(pipe, steps=\(10, …\)\)`"):
            attn2mask(recorded((9, 11)), "a cat")
        part.save(tmp_path / "part.safetensors")
        assert middle_step(ov.Trace.load(tmp_path / "part.safetensors")) == 10

    def test_segment_takes_a_token(self, pipe, token, image):
        # The class vector of the word itself: as a token it must change nothing.
        text = ov.record_image(pipe, image).text_of("a photograph of cat")  # as `ov.segment` asks
        same = ov.Token("cat", text.states[text.find("cat")[0][0]], text.states[:1])
        by_word = ov.segment(pipe, image, ["cat"], template="a photograph of {}")
        torch.testing.assert_close(
            ov.segment(pipe, image, [same]).scores, by_word.scores, atol=1e-4, rtol=1e-4
        )
        learned = ov.segment(pipe, image, [token])
        assert learned.classes == ("cat",) and not learned.scores.allclose(by_word.scores)
        with pytest.raises(ValueError, match="another model"):
            ov.segment(pipe, image, [ov.Token("cat", torch.zeros(5))])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"word": ""}, "has a word for its name"),
        ({"word": None}, "has a word for its name"),
        ({"class_": None}, "A token's class_ is a tensor or an array"),
        ({"class_": "cat"}, "A token's class_ is a tensor or an array"),
        ({"class_": torch.ones(2, 16)}, r"has the shape \(dim,\)"),
        ({"class_": torch.ones(0)}, r"has the shape \(dim,\)"),
        ({"class_": torch.full((16,), torch.nan)}, "not finite"),
        ({"background": torch.ones(16)}, r"its background \(token, dim\)"),
        ({"background": torch.ones(0, 16)}, "begins with a start token"),
        ({"background": torch.full((1, 16), torch.inf)}, "not finite"),
    ],
)
def test_what_is_no_token(fields, says):
    with pytest.raises((ValueError, TypeError), match=says):
        ov.Token(**{"word": "cat", "class_": torch.ones(16)} | fields)


def test_a_token_of_numpy_arrays(trace):
    vector = np.linspace(-1, 1, 16)
    token = ov.Token("cat", vector, np.zeros((1, 16)))
    assert token.class_.tolist() == vector.tolist() and token.start.shape == (16,)


def test_an_accent_in_a_token_s_name_is_found_however_it_was_typed(trace, token):
    composed, taken_apart = "caf\u00e9", "cafe\u0301"
    maps = trace.maps(ov.Token(taken_apart, token.class_, token.background))
    assert maps.words == (composed,) and maps[composed].equal(maps[taken_apart])
