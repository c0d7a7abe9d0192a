"""The language of the scenes: every word a caption may hold, and the words that are held out of all captions.

The held-out words measure open vocabulary: the model was never trained on them, but its text encoder
knows that a kitten is nearly a cat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..plumbing.english import with_article

# The class name first; the others are the synonyms that captions may use instead.
NAMES: dict[str, tuple[str, ...]] = {
    "aeroplane": ("aeroplane", "plane", "jet"),
    "bicycle": ("bicycle",),
    "bird": ("bird",),
    "boat": ("boat", "sailboat"),
    "bottle": ("bottle",),
    "bus": ("bus",),
    "car": ("car",),
    "cat": ("cat",),
    "chair": ("chair",),
    "cow": ("cow",),
    "dog": ("dog", "hound"),
    "horse": ("horse",),
    "motorbike": ("motorbike", "scooter"),
    "person": ("person", "man", "human"),
    "potted plant": ("potted plant", "plant"),
    "sheep": ("sheep",),
    "sofa": ("sofa",),
    "train": ("train",),
    "tv": ("tv", "monitor"),
    "tree": ("tree",),
    "house": ("house", "home"),
    "ball": ("ball", "football"),
    "apple": ("apple",),
    "flower": ("flower", "tulip"),
    "umbrella": ("umbrella",),
    "fish": ("fish",),
    "elephant": ("elephant",),
    "guitar": ("guitar",),
}

HYPERNYMS: dict[str, tuple[str, ...]] = {
    "animal": ("bird", "cat", "cow", "dog", "horse", "sheep", "fish", "elephant"),
    "vehicle": ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    "furniture": ("chair", "sofa"),
}

# word -> the concept it should find. None of them, nor any of their parts, stands in a caption
# (tests/test_scenes.py).
HELD_OUT: dict[str, str] = {
    "kitten": "cat",
    "puppy": "dog",
    "automobile": "car",
    "bike": "bicycle",
    "ship": "boat",
    "airplane": "aeroplane",
    "couch": "sofa",
    "pony": "horse",
    "lamb": "sheep",
    "locomotive": "train",
    "television set": "tv",
    "motorcycle": "motorbike",
    "cottage": "house",
    "oak": "tree",
    "calf": "cow",
    "trout": "fish",
    "blossom": "flower",
}

GROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "on the grass", "on green grass"),
    "sand": ("on sand", "on the sand", "on the beach"),
    "snow": ("in the snow", "on snow"),
    "water": ("on water", "on the water", "in the sea"),
    "sky": ("in the sky", "in a blue sky"),
    "night": ("at night", "in the night"),
    "brick": ("in front of a brick wall", "by a brick wall"),
    "wood": ("on a wooden floor", "on wood"),
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "grey", "white")
PREFIXES = ("", "", "a photograph of", "a picture of")
STYLE_PREFIXES = {"fluent": "a photograph of", "google": "a painting of", "twitter": "a drawing of"}
STYLELESS_PREFIXES = ("", "a picture of")

_HYPERNYMS_OF = {name: [h for h, members in HYPERNYMS.items() if name in members] for name in NAMES}


@dataclass(frozen=True)
class Telling:
    """How much a caption tells: the probabilities that it names the art style of its scene (as a photograph,
    a painting or a drawing), an object's colour where it has one, and the ground."""

    style: float = 0.85
    colour: float = 0.6
    ground: float = 0.85


def pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    """One of the items; `rng.choice` would turn them into an array every time, at twenty times the cost."""
    return items[int(rng.integers(len(items)))]


def choose_word(rng: np.random.Generator, concept: str) -> str:
    """The class name three times out of four, else a synonym (15 %) or a hypernym (10 %) where there is
    one."""
    number = rng.random()
    if number < 0.15:
        return pick(rng, NAMES[concept])
    if number < 0.25 and _HYPERNYMS_OF[concept]:
        return pick(rng, _HYPERNYMS_OF[concept])
    return NAMES[concept][0]


def noun_phrase(rng: np.random.Generator, word: str, colour: str | None, chance: float = 0.6) -> str:
    """The word with its article and, with probability `chance`, the object's colour if it has one: "a red
    car"."""
    if word == "furniture":  # not countable
        return f"{colour} furniture" if colour and rng.random() < chance else "furniture"
    return with_article(f"{colour} {word}" if colour and rng.random() < chance else word)


def prefixes(rng: np.random.Generator, style: str, chance: float) -> tuple[str, ...]:
    """How a caption may begin: with probability `chance` by its art style, else without one."""
    return (STYLE_PREFIXES[style],) if rng.random() < chance else STYLELESS_PREFIXES


def caption(
    rng: np.random.Generator, phrases: list[str], ground: str | None, openings: Sequence[str] = PREFIXES
) -> str:
    """Noun phrases from left to right, joined as English does, behind one of the openings: "a photograph of
    a cat, a red car and a tree on grass"."""
    *head, last = phrases
    listed = f"{', '.join(head)} and {last}" if head else last
    where = pick(rng, GROUND_PHRASES[ground]) if ground is not None else ""
    return " ".join(part for part in (pick(rng, openings), listed, where) if part)
