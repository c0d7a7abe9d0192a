"""The emoji scenes: true masks, true captions, the same for the same seed."""

import hashlib
import re

import numpy as np
import pytest
from tokenizers import Tokenizer

from ovamnb.emoji import CONCEPTS, scene, scenes, words
from ovamnb.emoji.grounds import GROUNDS, ground
from ovamnb.emoji.scenes import MAX_HIDDEN
from ovamnb.emoji.sprites import CODE_POINTS, NATURAL_COLOUR, PAINTABLE, PAINTS, STYLES, paint, sprite
from ovamnb.emoji.streams import Scenes, batches
from ovamnb.pipelines import BUNDLED
from workshop.train.stages import STAGES

SEEDS = range(300)


def test_there_are_enough_concepts_and_every_voc_class_that_has_an_emoji():
    voc = "aeroplane bicycle bird boat bottle bus car cat chair cow dog horse motorbike person sheep sofa"
    assert len(CONCEPTS) >= 25 and {*voc.split(), "potted plant", "train", "tv"} <= set(CONCEPTS)
    assert set(words.NAMES) == set(CODE_POINTS)
    assert set(NAMES_WITH_COLOUR := {*NATURAL_COLOUR, *PAINTABLE}) <= set(CONCEPTS) and NAMES_WITH_COLOUR


def test_same_seed_same_scene():
    one, two, other = scene(5), scene(5), scene(6)
    assert np.array_equal(one.image, two.image) and np.array_equal(one.labels, two.labels)
    assert one.caption == two.caption and one.objects == two.objects
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (96, 160)])
def test_shapes_masks_and_boxes_agree(size):
    for seed in range(40):
        picture = scene(seed, size=size)
        assert picture.image.shape == (*size, 3) and picture.image.dtype == np.uint8
        assert picture.labels.shape == size
        shown = {CONCEPTS[k - 1] for k in np.unique(picture.labels) if k}
        assert shown == {thing.concept for thing in picture.objects} and 1 <= len(shown) <= 3
        for thing in picture.objects:
            mask = picture.mask(thing.concept)
            left, top, right, bottom = thing.box
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert (
                mask[top].any()
                and mask[bottom - 1].any()
                and mask[:, left].any()
                and mask[:, right - 1].any()
            )


def test_the_mask_is_where_the_object_was_drawn():
    """Without the object the pixels outside its mask are the same ground, pixel for pixel (but for its soft
    edge)."""
    rng = np.random.default_rng(3)
    picture = scene(rng, concepts=["car"], ground_name="night", count=1)
    replay = np.random.default_rng(3)
    bare = ground("night", replay, (128, 128))
    changed = (picture.image != bare).any(-1)
    mask = picture.mask("car")
    assert (changed | ~mask).mean() > 0.995  # inside the mask nearly every pixel is the car's
    assert (changed & ~mask).sum() < 0.5 * mask.sum()  # outside only the anti-aliased rim
    assert mask.any() and not changed[:1, :1].any()


def test_no_object_loses_more_than_a_quarter_to_another(monkeypatch):
    whole = {}  # scene() draws objects one after the other: right after its own turn each is whole
    place = scenes._place

    def noting(rng, canvas, labels, areas, concept, *rest):
        placed = place(rng, canvas, labels, areas, concept, *rest)
        if placed:
            whole[concept] = np.count_nonzero(labels == CONCEPTS.index(concept) + 1)
        return placed

    monkeypatch.setattr(scenes, "_place", noting)
    hidden = []
    for seed in range(200):
        whole.clear()
        picture = scene(seed, count=3)
        hidden += [1 - picture.mask(concept).sum() / area for concept, area in whole.items()]
    assert max(hidden) <= MAX_HIDDEN == 0.25
    assert max(hidden) > 0.1  # objects do overlap


def test_captions_name_what_is_there_from_left_to_right():
    for seed in SEEDS:
        picture = scene(seed)
        places = [picture.caption.index(thing.word) for thing in picture.objects]
        if len({thing.word for thing in picture.objects}) == len(places):
            assert places == sorted(places), picture.caption
        centres = [thing.box[0] + thing.box[2] for thing in picture.objects]
        assert centres == sorted(centres)


def test_grammar():
    captions = [scene(seed).caption for seed in SEEDS]
    joined = " | ".join(captions)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |, on| and on\b", joined)
    for expected in (
        "a photograph of",
        "on the grass",
        "in the snow",
        "animal",
        "vehicle",
        "red ",
        "an elephant",
    ):
        assert expected in joined
    assert words.with_article("orange cat") == "an orange cat"


def test_scenes_stay_what_they_were():
    """Data sets and published figures are of these scenes: what is new comes by new arguments."""
    told = [(picture.caption, picture.ground, picture.objects) for picture in map(scene, range(50))]
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:16] == "11e8dc667d40cc8a"


@pytest.mark.parametrize("name", STAGES)
def test_objects_keep_their_size_in_pixels_on_every_canvas(name):
    stage = STAGES[name]
    pictures = [stage.compose(np.random.default_rng(seed)) for seed in range(120)]
    assert {len(p.objects) for p in pictures} == set(range(1, len(stage.crowds) + 1))
    assert all(p.image.shape == (*stage.size, 3) for p in pictures)
    boxes = [p.objects[0].box for p in pictures if len(p.objects) == 1]
    sides = [max(right - left, bottom - top) for left, top, right, bottom in boxes]
    assert 40 < np.mean(sides) < 75 and max(sides) <= stage.sides[0][1]


@pytest.mark.parametrize("sides, drawn", [(None, (64, 64)), (((44, 62),), (128, 128))])
def test_a_small_canvas_shows_a_cutting_of_a_large_ground(monkeypatch, sides, drawn):
    asked = []

    def noting(name, rng, size):
        asked.append(size)
        return ground(name, rng, size)

    monkeypatch.setattr(scenes, "ground", noting)
    assert scene(3, size=(64, 64), count=1, sides=sides).image.shape == (64, 64, 3)
    assert asked == [drawn]


def test_captions_tell_the_style_the_colour_and_the_ground_as_often_as_they_should():
    for share in (0.0, 1.0):
        telling = words.Telling(style=share, colour=share, ground=share)
        for seed in range(80):
            picture = scene(seed, telling=telling)
            (style,) = {thing.style for thing in picture.objects}
            opening = picture.caption.startswith(words.STYLE_PREFIXES[style])
            coloured = all(
                (thing.colour or "") in picture.caption or thing.colour is None for thing in picture.objects
            )
            ground = any(picture.caption.endswith(p) for p in words.GROUND_PHRASES[picture.ground])
            assert opening == ground == bool(share) and (coloured or not share)
            others = set(words.STYLE_PREFIXES.values()) - {words.STYLE_PREFIXES[style]}
            assert not any(other in picture.caption for other in others)
    assert set(words.STYLE_PREFIXES) == set(STYLES)
    named = [scene(seed, telling=words.Telling(), size=(32, 32)).caption for seed in range(600)]
    share = np.mean([text.startswith(tuple(words.STYLE_PREFIXES.values())) for text in named])
    assert 0.8 < share < 0.9


def test_the_bundled_tokenizer_knows_every_word_of_a_caption():
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer" / "tokenizer.json"))
    openings = (*words.STYLE_PREFIXES.values(), *words.STYLELESS_PREFIXES, *words.PREFIXES)
    assert all(tokenizer.token_to_id(word) is not None for text in openings for word in text.split())


def test_held_out_words_never_stand_in_a_caption():
    held_out = {part for word in words.HELD_OUT for part in word.split()}
    said = {
        part for seed in range(2000) for part in re.findall(r"[a-z]+", scene(seed, size=(32, 32)).caption)
    }
    every = {
        part
        for group in (
            *words.NAMES.values(),
            *words.GROUND_PHRASES.values(),
            words.PREFIXES,
            words.STYLE_PREFIXES.values(),
            words.HYPERNYMS,
        )
        for phrase in group
        for part in phrase.split()
    }
    assert not held_out & (said | every)
    assert set(words.HELD_OUT.values()) <= set(CONCEPTS)


def test_painting_changes_the_body_and_leaves_the_outline():
    for concept in PAINTABLE:
        for style in STYLES:
            plain, blue = sprite(concept, style), sprite(concept, style, "blue")
            assert np.array_equal(plain[..., 3], blue[..., 3])
    red, green = (paint(sprite("car", "twitter"), PAINTS[c])[..., :3].astype(int) for c in ("red", "green"))
    body = sprite("car", "twitter")[..., 3] > 200
    assert (red[body][:, 0] - red[body][:, 1]).mean() > 30 < (green[body][:, 1] - green[body][:, 0]).mean()


@pytest.mark.parametrize("name", GROUNDS)
def test_grounds_fill_any_size(name):
    picture = ground(name, np.random.default_rng(0), (40, 72))
    assert picture.shape == (40, 72, 3) and picture.dtype == np.uint8 and picture.std() > 1


def test_batches_resume_where_they_stopped():
    settings = {"batch": 3, "size": (32, 32)}
    whole = [image for image, *_ in batches("unet", 0, 4, **settings)]
    rest = [image for image, *_ in batches("unet", 2, 2, **settings)]
    assert all((a == b).all() for a, b in zip(whole[2:], rest, strict=True))
    assert (Scenes("unet", 0, 1, (32, 32))[0][0] != Scenes("test", 0, 1, (32, 32))[0][0]).any()
