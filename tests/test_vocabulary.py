"""Places ask back: the words of a dictionary, ranked by the attention that a place gives them."""

import json
from copy import copy

import pytest
import torch
from conftest import WORDS, generate, sd_pipeline, word_tokenizer, xl_pipeline
from shared_fixtures import on_pretend_device

import ovamnb as ov
from ovamnb import dictionary
from ovamnb.plumbing import lexicon
from ovamnb.plumbing.asked import RankedWords

ASKED = ["cat", "dog", "kitten", "hot dog", "red"]  # of one and of several sub-tokens
NEAR = {"rel": 1e-4, "abs": 1e-7}


def mask_of(h, w, *boxes):
    mask = torch.zeros(h, w, dtype=torch.bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


PLACES = {
    "pixel": (3, 20),
    "corner": (0, 0),
    "mask": mask_of(16, 24, (2, 9, 3, 12), (12, 13, 20, 24)),
    "mask on another grid": mask_of(8, 12, (1, 5, 2, 6)),
}


def seen(heat, place):
    """What a map has in a place: stretched to the image or to the mask."""
    if isinstance(place, tuple):
        return ov.resize(heat, (16, 24))[place].item()
    return ov.resize(heat, tuple(place.shape))[place].mean().item()


@pytest.fixture(scope="module")
def whole_words():
    """A trace whose text encoder has no layer and knows whole words, like the bundled model's."""
    pipe = sd_pipeline(word_tokenizer(), text_layers=0)
    with ov.record(pipe, queries="both", dtype=torch.float32) as trace:
        generate(pipe, height=16, width=24)
    return trace


class TestAlone:
    """Each word in a text of its own: what `maps` says of that text."""

    @pytest.mark.parametrize("choices", [{}, {"blocks": 6}, {"steps": [0, 2], "queries": "negative"}])
    @pytest.mark.parametrize("place", PLACES)
    def test_the_share_is_that_of_the_maps(self, trace, place, choices):
        found = trace.words_at(PLACES[place], ASKED, together=False, **choices)
        for word in ASKED:
            heat = trace.maps(f"a photograph of {word}", **choices).share[word]
            assert found[word] == pytest.approx(seen(heat, PLACES[place]), **NEAR)

    @pytest.mark.parametrize("template", ["a {}", "{} on the grass", "{}"])
    def test_whatever_stands_around_the_word(self, whole_words, trace, template):
        for which, asked in ((whole_words, WORDS), (trace, ASKED)):
            found = which.words_at((3, 5), asked, together=False, template=template)
            for word in ("cat", "dog"):
                heat = which.maps(template.format(word)).share[word]
                assert found[word] == pytest.approx(seen(heat, (3, 5)), **NEAR)

    def test_two_text_encoders(self):
        pipe = xl_pipeline()
        with ov.record(pipe, dtype=torch.float32) as trace:
            generate(pipe, steps=1)
        found = trace.words_at((3, 5), ASKED, together=False)
        heat = trace.maps("a photograph of hot dog").share["hot dog"]
        assert found["hot dog"] == pytest.approx(ov.resize(heat, (16, 16))[3, 5].item(), **NEAR)

    def test_an_encoder_that_looks_ahead(self, trace, monkeypatch):
        """Nothing is common then, and padding counts."""
        encoder = trace.text_encoder
        words = lexicon.read_vocabulary(encoder, ["cat", "dog"], "{} on")
        assert [group.before for group in words.groups] == [1]  # the start token

        def backwards(self, prompt, **options):
            padded = self.tokenizer(
                prompt,
                padding="max_length",
                max_length=self.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )["input_ids"]
            return (self.text_encoder(padded.flip(1)).last_hidden_state.flip(1), None)

        monkeypatch.setattr(type(encoder.pipe), "encode_prompt", backwards)
        found = trace.words_at((3, 5), ["cat", "dog"], together=False, template="{} on")
        for word in ("cat", "dog"):
            heat = trace.maps(f"{word} on").share[word]
            assert found[word] == pytest.approx(seen(heat, (3, 5)), **NEAR)


class TestTogether:
    """All words in one softmax, with the start token and what their texts begin with."""

    @pytest.mark.parametrize("place", PLACES)
    def test_it_is_one_text_of_all_words(self, trace, place):
        states, owner = [], []
        for i, word in enumerate(ASKED):
            text = trace.text_encoder.encode(f"a photograph of {word}")
            [mine] = text.find(word)
            states += [] if states else [text.states[: mine[0]]]
            owner += [-1] * (0 if owner else mine[0]) + [i] * len(mine)
            states.append(text.states[mine])
        share = trace.maps(torch.cat(states)).share.values
        found = trace.words_at(PLACES[place], ASKED)
        for i, word in enumerate(ASKED):
            heat = share[[k for k, whose in enumerate(owner) if whose == i]].mean(dim=0)
            assert found[word] == pytest.approx(seen(heat, PLACES[place]), **NEAR)

    def test_the_order_and_the_number_of_words_given_do_not_matter_to_the_rest(self, trace):
        one, other = trace.words_at((3, 5), ASKED), trace.words_at((3, 5), ASKED[::-1], count=2)
        assert one.words[:2] == other.words and one.shares[:2] == pytest.approx(other.shares)

    @pytest.mark.parametrize("together", [True, False])
    def test_pieces_are_put_together_again(self, trace, monkeypatch, together):
        mask = PLACES["mask"]
        whole = trace.words_at(mask, ASKED, together=together, contrast=True)
        monkeypatch.setattr(dictionary, "WORDS", 1)
        monkeypatch.setattr(dictionary, "ROWS", (7, 7))
        small = trace.words_at(mask, ASKED, together=together, contrast=True)
        assert small.words == whole.words and small.shares == pytest.approx(whole.shares)
        assert small.usual == pytest.approx(whole.usual)


class TestTheOrder:
    def test_the_largest_share_comes_first(self, trace):
        found = trace.words_at((3, 5), ASKED, count=3)
        assert len(found) == len(found.words) == 3 and set(found.words) < {*ASKED}
        assert list(found.shares) == sorted(found.shares, reverse=True)
        assert list(found) == list(zip(found.words, found.shares, strict=True))
        assert [found.rank(word) for word in found.words] == [1, 2, 3]
        assert sorted(map(found.rank, ASKED)) == [1, 2, 3, 4, 5] and found.usual == ()
        assert all(found[word] <= found.shares[2] for word in {*ASKED} - {*found.words})

    def test_contrast_asks_what_is_more_here_than_elsewhere(self, trace):
        mask, everywhere = PLACES["mask"], torch.ones(16, 24, dtype=torch.bool)
        found, picture = trace.words_at(mask, ASKED, contrast=True), trace.words_at(everywhere, ASKED)
        assert list(found.usual) == pytest.approx([picture[word] for word in found.words])
        here = torch.tensor(found.shares).double()
        gain = here * (here / torch.tensor(found.usual).double()).log()
        assert gain.tolist() == sorted(gain.tolist(), reverse=True)

    def test_a_word_with_much_attention_everywhere_is_first_without_contrast_only(self):
        here, means = torch.tensor([0.5, 0.3, 0.1]), torch.tensor([0.5, 0.1, 0.2])
        words = ("start", "cat", "car")
        assert dictionary.rank(here, None, words, 3).words == ("start", "cat", "car")
        assert dictionary.rank(here, means, words, 3).words == ("cat", "start", "car")

    def test_it_can_be_read(self):
        found = RankedWords(("cat", "kitten", "car"), torch.tensor([0.5, 0.25, 0.125]), None, 2)
        assert str(found).split() == [
            *"RankedWords: 2 of 3, by their share of attention".split(),
            *("1", "cat", "50.00%", "2", "kitten", "25.00%"),
        ]
        with pytest.raises(KeyError, match="no word 'kiten': did you mean 'kitten'"):
            found.rank("kiten")
        with pytest.raises(KeyError, match="no word 3"):
            found[3]


class TestTheDictionary:
    def test_a_tokenizer_of_whole_words_gives_its_own(self, whole_words):
        found = whole_words.words_at((3, 5), count=100, template="a {}")
        assert sorted(found.words) == sorted(WORDS)  # no start token, no [UNK]

    def test_for_clip_it_is_the_bundled_models(self, trace, monkeypatch):
        known = lexicon._own_words(trace.text_encoder)
        assert len(known) > 19_900 and {"cat", "kitten", "the"} <= {*known} and "," not in known
        monkeypatch.setattr(lexicon, "_own_words", lambda encoder: ("cat", "internationalization", "dog"))
        assert set(trace.words_at((3, 5)).words) == {"cat", "dog"}  # 20 letters are too long for this encoder

    def test_words_are_embedded_once(self, trace, monkeypatch):
        asked = []
        embed = lexicon._embed
        monkeypatch.setattr(lexicon, "_embed", lambda *a, **k: asked.append(a[1]) or embed(*a, **k))
        for _ in range(2):
            trace.words_at((3, 5), ["cat", "car"])
        assert asked == [("cat", "car")]
        weight = trace.text_encoder.parts["text_encoder"].get_input_embeddings().weight
        with torch.no_grad():
            before = weight.clone()
            weight += 1.0 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        try:
            found = trace.words_at((3, 5), ["cat", "car"], together=False)
            heat = trace.maps("a photograph of cat").share["cat"]
            assert len(asked) == 2 and found["cat"] == pytest.approx(seen(heat, (3, 5)), **NEAR)
        finally:
            weight.data.copy_(before)


class TestRecordings:
    def test_half_precision(self, pipe):
        found = []
        for dtype in (torch.float16, torch.float32):
            with ov.record(pipe, dtype=dtype) as trace:
                generate(pipe)
            found.append(trace.words_at((3, 5), ASKED))
        assert [found[0][word] for word in ASKED] == pytest.approx([found[1][w] for w in ASKED], rel=1e-2)

    def test_the_unconditional_half_alone_and_one_image_of_several(self, pipe):
        with ov.record(pipe, queries="unconditional", dtype=torch.float32) as trace:
            generate(pipe, ["a cat", "a dog"])
        one, two = (trace.words_at((3, 5), ASKED, image=i) for i in (0, 1))
        heat = trace.maps("a photograph of cat", image=1).share["cat"]
        alone = trace.words_at((3, 5), ASKED, image=1, together=False)
        assert alone["cat"] == pytest.approx(ov.resize(heat, (16, 16))[3, 5].item(), **NEAR)
        assert one.shares != two.shares

    def test_saved_and_loaded(self, trace, tmp_path, pipe):
        trace.save(tmp_path / "trace.safetensors", text_encoder=True)
        loaded = ov.Trace.load(tmp_path / "trace.safetensors")
        assert loaded.words_at((3, 5), ASKED).words == trace.words_at((3, 5), ASKED).words
        trace.save(tmp_path / "bare.safetensors", text_encoder=False)
        bare = ov.Trace.load(tmp_path / "bare.safetensors")
        with pytest.raises(ValueError, match="no text encoder to read words with: load it as"):
            bare.words_at((3, 5), ASKED)
        assert ov.Trace.load(tmp_path / "bare.safetensors", pipe).words_at((3, 5), ASKED)

    @pytest.mark.slow
    def test_on_another_device(self):
        said = on_pretend_device(
            "from conftest import sd_pipeline, generate\n"
            "pipe = sd_pipeline().to('pretend')\n"
            "with ov.record(pipe, dtype=torch.float32, device=None) as trace: generate(pipe, steps=1)\n"
            "for together in (True, False):\n"
            "    here, there = (each.words_at((3, 5), ['cat', 'hot dog'], together=together,\n"
            "        contrast=True) for each in (trace.to('cpu'), trace))\n"
            "    print(trace.device, abs(here['hot dog'] - there['hot dog']) < 1e-5)\n"
        )
        assert said == ["pretend:0", "True"] * 2


class TestRefused:
    @pytest.mark.parametrize(
        ("place", "says"),
        [
            ((16, 0), "y is a whole number from 0 to 15, not 16"),
            ((0, -1), "x is a whole number from 0 to 23, not -1"),
            ((0.5, 1), "y is a whole number"),
            (torch.zeros(16, 24, dtype=torch.bool), "mask is empty"),
            (torch.ones(24, 16, dtype=torch.bool), r"24×16 \(height × width\), the image 16×24"),
            (torch.ones(16, 24), "a mask .* of True and False"),
            ("cat", "A place is a tensor"),
            ((1, 2, 3), "a pixel"),
        ],
    )
    def test_a_place_that_is_none(self, trace, place, says):
        with pytest.raises((ValueError, TypeError), match=says):
            trace.words_at(place, ASKED)

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ([], "vocabulary is empty"),
            (["cat", " "], "a word of it is"),
            (["cat", "dog", "cat"], "twice in the vocabulary: cat"),
            ("cat", "vocabulary is a list of words"),
            (["cat", 3], "a word, not 3"),
            (["a" * 30], "would fall off"),
        ],
    )
    def test_words_that_are_none(self, trace, words, says):
        with pytest.raises((ValueError, TypeError), match=says):
            trace.words_at((3, 5), words)

    def test_a_word_that_the_model_does_not_know(self, whole_words):
        with pytest.raises(ValueError, match="no word 'kiten': did you mean 'kitten'"):
            whole_words.words_at((3, 5), ["cat", "kiten"], template="a {}")
        with pytest.raises(ValueError, match="no word 'photograph'"):
            whole_words.words_at((3, 5))

    def test_other_arguments(self, trace):
        for options, says in (
            ({"count": 0}, "count is a whole number, 1 or more"),
            ({"template": "a photograph"}, "one {} in the place of the word"),
            ({"together": 1}, "together is True or False"),
            ({"contrast": "yes"}, "contrast is True or False"),
            ({"blocks": "nowhere"}, "No block matches"),
            ({"steps": 9}, "not recorded"),
            ({"image": 1}, "no image 1"),
        ):
            with pytest.raises((ValueError, TypeError), match=says):
                trace.words_at((3, 5), ASKED, **options)
        with pytest.raises(ValueError, match="trace is empty"):
            ov.Trace().words_at((3, 5))

    def test_an_image_of_unknown_size_has_no_pixels(self, trace):
        bare = copy(trace)
        bare.image_size = None
        with pytest.raises(ValueError, match="does not know the size of its image"):
            bare.words_at((3, 5), ASKED)
        assert bare.words_at(PLACES["mask"], ASKED).shares == trace.words_at(PLACES["mask"], ASKED).shares


class TestPictures:
    def test_the_sheet_marks_places_and_ranks_words(self, trace, image):
        from ovamnb.plot.ask_places import draw_places

        places = {"on the cat": (3, 5), "all of it": PLACES["mask"], "corner": (0, 0)}
        figure = draw_places(trace, image, places, ASKED, count=3, contrast=True)
        picture, *bars = figure.axes
        assert [text.get_text() for text in picture.texts] == ["1", "2", "3"]
        assert picture.texts[0].get_position() == (5, 3)
        assert [ax.get_title() for ax in bars] == ["1: on the cat", "2: all of it", "3: corner"]
        found = trace.words_at((3, 5), ASKED, count=3, contrast=True)
        assert [label.get_text() for label in bars[0].get_yticklabels()] == list(found.words)
        assert [bar.get_width() for bar in bars[0].patches] == pytest.approx(found.shares)
        assert len({ax.get_xlim() for ax in bars}) == 1 and len(bars[0].lines) == 3
        with pytest.raises(ValueError, match="no place to ask"):
            draw_places(trace, image, [])

    def test_a_click_asks(self, trace, image):
        pytest.importorskip("anywidget")
        from ovamnb.plot.ask_places import click_places

        widget = click_places(trace, image, ASKED, count=2)
        assert widget.size == [16, 24] and widget.picture.startswith("data:image/png;base64,")
        for y, x in ((8, 12), (3, 5), (99, -4)):
            widget.place = [y, x]
            found = trace.words_at((min(y, 15), max(x, 0)), ASKED, count=2)
            assert widget.answer == [list(pair) for pair in found]
        asked = widget.asked
        widget.place = [15, 0]  # the same pixel: the same words, and yet an answer
        assert widget.asked == asked + 1


@pytest.mark.slow
def test_the_stored_figures_are_the_bundled_models():
    """And say what the defaults rest on: one softmax for all words, the 16×16 grid."""
    from ovamnb.evaluation.store import weights_hash
    from workshop.measure import places

    stored = json.loads(places.RESULT.read_text("utf-8"))
    assert stored["weights"] == weights_hash(ov.load_pipeline(device="cpu"))
    for place in ("mask", "pixel"):
        best, alone, fine, every = (
            stored["rows"][f"{row} | {place} | class"]["own"][-1]
            for row in ("16×16", "16×16, alone", "32×32", "all but the mid block")
        )
        assert best > max(alone, fine, every) + 0.1
        row = stored["rows"][f"16×16 | {place} | class"]
        assert max(row["control"]) < 0.05 and row["chance"][-1] < 0.01 and row["objects"] == 80
    assert places.chance(1, 20_000) == pytest.approx([k / 20_000 for k in places.FIRST])
