"""Words to embeddings: the pipeline's own states, the real tokens, and a sentence for every bad text."""

import pytest
import torch
from conftest import LENGTH, clip_tokenizer, sd_pipeline, word_tokenizer, xl_pipeline

from ovamnb.text import Text, TextEncoder, _as_source, from_states


@pytest.fixture(scope="module")
def clip():
    pipe = sd_pipeline()
    return pipe, TextEncoder.of(pipe)


@pytest.fixture(scope="module")
def words():
    pipe = sd_pipeline(word_tokenizer(), text_layers=0)
    return pipe, TextEncoder.of(pipe)


@pytest.mark.parametrize("kind", ["clip", "words", "xl"])
def test_states_are_the_pipelines_own_without_padding(kind, request):
    pipe, encoder = (p := xl_pipeline(), TextEncoder.of(p)) if kind == "xl" else request.getfixturevalue(kind)
    text = encoder.encode("a kitten on grass")
    padded = pipe.encode_prompt(
        "a kitten on grass", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )[0]
    assert padded.shape[1] == LENGTH and len(text.states) < LENGTH
    assert torch.equal(text.states, padded[0, : len(text.states)])
    assert text.states.shape[1] == pipe.unet.config.cross_attention_dim
    assert len(text.tokens) == len(text.states) == len(text.spans)
    assert text.tokens[0] == "<|startoftext|>" and text.tokens[-1] == "<|endoftext|>"
    assert "".join(text.tokens[1:-1]) == "akittenongrass"


def test_states_are_those_of_the_unpadded_text(clip):
    pipe, encoder = clip
    ids = pipe.tokenizer("a red cat", return_tensors="pt").input_ids
    torch.testing.assert_close(encoder.encode("a red cat").states, pipe.text_encoder(ids)[0][0])


def test_a_list_is_one_text_and_keeps_its_phrases(clip):
    _, encoder = clip
    text = encoder.encode(["red cat", "dog", "dog"])
    assert text.source == "red cat dog dog" and text.words == ("red cat", "dog")
    assert torch.equal(text.states, encoder.encode("red cat dog dog").states)
    assert len(text.find("red cat")) == 1 and len(text.find("dog")) == 2


@pytest.mark.parametrize("empty", ["", "   ", [], ["", " "], "?!"])
def test_an_empty_text_is_refused(clip, empty):
    with pytest.raises(ValueError, match="empty: give at least one word"):
        clip[1].encode(empty)


def test_what_is_no_text_is_refused(clip):
    with pytest.raises(TypeError, match=r"a string, a list of words, or a tensor .* not int"):
        clip[1].encode(7)
    with pytest.raises(TypeError, match="not list"):
        clip[1].encode(["cat", 7])


def test_a_text_too_long_says_which_words_fall_off(clip, recwarn, caplog):
    with pytest.raises(ValueError, match=rf"has 22 tokens .* takes {LENGTH}: 'kitten dog' would fall off"):
        clip[1].encode("cat " * 16 + "kitten dog")
    assert not caplog.records and not recwarn
    assert len(clip[1].encode("cat " * (LENGTH - 2)).states) == LENGTH  # the longest that fits


def test_an_unknown_word_is_refused_with_its_neighbours(words):
    with pytest.raises(ValueError, match="no word 'kiten': did you mean 'kitten'"):
        words[1].encode("a kiten on grass")
    with pytest.raises(ValueError, match="no word 'xyzzy': use another word"):
        words[1].encode("xyzzy")
    assert words[1].encode("A Kitten").tokens[1:-1] == ("A", "Kitten")
    assert words[1].encode("a cat.").tokens[1:-1] == ("a", "cat", ".")  # punctuation is no word


@pytest.mark.parametrize(
    "text", ["a 🐱 on grass", "🐱", "a cat❤", "a ★ and a cat", "a cat ➜ grass", "cat 🐱!"]
)
def test_an_emoji_or_a_symbol_is_a_word(words, text):
    """All of them would be one and the same unknown token."""
    with pytest.raises(ValueError, match=r"no word '[^a-z]+': use another word"):
        words[1].encode(text)
    with pytest.raises(ValueError, match=r"no word '[^a-z]+': use another word"):
        words[1].encode(text.split())


def test_punctuation_is_asked_for_only_where_it_is_known(words, clip):
    assert words[1].encode("a cat — “red” grass…").words == ("a", "cat", "red", "grass")
    for text in ("—", "…", "“ ”"):
        with pytest.raises(ValueError, match="empty: give at least one word"):
            words[1].encode(text)
    with pytest.raises(ValueError, match="no word ','"):
        words[1].encode(["cat", ","])
    assert clip[1].encode(["cat", ","]).words == ("cat", ",")


def test_clip_knows_any_word(clip):
    assert clip_tokenizer().unk_token_id == clip_tokenizer().eos_token_id
    assert clip[1].encode("xyzzy").find("xyzzy")


def test_words_next_to_punctuation_are_found(clip):
    text = clip[1].encode("A cat, a dog.")
    assert text.words == ("A", "cat", "a", "dog")
    assert [text.tokens[i] for i in text.find("dog")[0]] == ["dog"]


def test_textual_inversion_counts_all_its_tokens():
    pipe = sd_pipeline()
    pipe.load_textual_inversion(torch.randn(3, 16), token="<cat-toy>")
    for source in ("a <cat-toy> cat", ["a", "<cat-toy>", "cat"]):
        text = TextEncoder.of(pipe).encode(source)
        assert text.tokens[1:-1] == ("a", "<cat-toy>", "<cat-toy>_1", "<cat-toy>_2", "cat")
        assert text.find("<cat-toy>") == [[2, 3, 4]]
        assert text.find("cat") == [[5]], "it is no part of the inversion's name"
        assert text.find("cat-toy") == [[2], [3], [4]], "as `words` calls it"
        # Each vector once, as in the prompt of a picture.
        states = pipe.encode_prompt("a <cat-toy> cat", "cpu", 1, False)[0][0]
        torch.testing.assert_close(text.states, states[: len(text.states)])


def test_reading_a_text_runs_no_network(clip):
    pipe, encoder = clip
    ran = pipe.text_encoder.register_forward_hook(lambda *_: pytest.fail("the text encoder ran"))
    try:
        read = encoder.read(["hot dog", "dog"])
    finally:
        ran.remove()
    encoded = encoder.encode(["hot dog", "dog"])
    assert read.places(["dog", "hot dog"]) == encoded.places(["dog", "hot dog"])
    assert read.tokens == encoded.tokens and read.spans == encoded.spans


def test_embeddings_have_numbers_for_names():
    text = from_states(torch.zeros(3, 16))
    assert text.tokens == ("0", "1", "2")
    with pytest.raises(KeyError, match="ask by token number"):
        text.find("cat")
    with pytest.raises(ValueError, match=r"shape \(token, dim\), not \(1, 3, 16\)"):
        from_states(torch.zeros(1, 3, 16))


def test_a_pipeline_without_text_encoder_has_no_text_side():
    pipe = sd_pipeline()
    pipe.text_encoder = None
    assert TextEncoder.of(pipe) is None


@pytest.mark.parametrize(
    "make", [sd_pipeline, xl_pipeline, lambda: sd_pipeline(word_tokenizer(), text_layers=0)]
)
def test_the_text_side_survives_being_packed(make):
    encoder = TextEncoder.of(make())
    again = TextEncoder.unpack(encoder.pack())
    before, after = encoder.encode("A cat on Grass"), again.encode("A cat on Grass")
    assert torch.equal(before.states, after.states)
    assert (before.tokens, before.spans) == (after.tokens, after.spans)
    assert again.nbytes == encoder.nbytes > 0


def test_files_that_are_none_are_told(clip):
    files = clip[1].pack()
    weights = next(name for name in files if name.endswith(".safetensors"))
    for wrong in (files | {weights: files[weights][:100]}, {n: f for n, f in files.items() if n != weights}):
        with pytest.raises(ValueError, match="text side of this trace is damaged"):
            TextEncoder.unpack(wrong)


def test_files_outside_the_folder_are_refused():
    with pytest.raises(ValueError, match="no file of a text encoder"):
        TextEncoder.unpack({"../outside.json": torch.zeros(2, dtype=torch.uint8)})


def test_an_entry_of_a_list_is_itself_alone(clip):
    _, encoder = clip
    text = encoder.encode(["hot dog", "dog"])
    (whole,), (alone,) = text.find("hot dog"), text.find("dog")
    assert set(whole).isdisjoint(alone) and text.tokens[alone[0]] == "dog"
    assert len(encoder.encode("hot dog and dog").find("dog")) == 2, "in a sentence, wherever it occurs"
    assert len(encoder.encode(["hot dog"]).find("dog")) == 1, "and in a phrase, where it is no entry"


def test_the_place_of_a_phrase_is_no_part_of_a_longer_one(clip):
    _, encoder = clip
    text = encoder.encode("a hot dog and a dog")
    dog, hot_dog = text.places(["dog", "hot dog"])
    assert set(dog).isdisjoint(hot_dog) and [text.tokens[i] for i in dog] == ["dog"]
    assert text.places(["dog"]) == text.find("dog")[:1]


def test_an_accent_is_found_however_it_was_typed(clip):
    composed, taken_apart = "caf\u00e9", "cafe\u0301"
    text = Text(torch.zeros(3, 4), ("s", "c", "e"), composed, ((0, 0), (0, 4), (0, 0)), (composed,))
    assert text.find(taken_apart) == text.find(composed) == [[1]]
    assert _as_source([taken_apart]) == (composed, (composed,), (composed,))
