"""The settings of segmentation and of token optimisation: the papers' values, and ours."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Self

from .plumbing import checks
from .plumbing.files import existing, write_text
from .select import Grid, as_blocks

TUNED = "segment.json"  # beside a model: the recipe that was tuned for it
MOST_POWER = 1000  # long before, a map is the same everywhere
MOST_EVALUATIONS = 100_000


class Recipe:
    def changed(self, changes: Mapping[str, object]) -> Self:
        """The recipe with other values for some of its fields; TypeError for a name that is no field."""
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}."
                raise TypeError(f"There is no '{name}' to choose: {hint}")
        return replace(self, **changes)


@dataclass(frozen=True)
class SegmentRecipe(Recipe):
    """The settings of DiffSegmenter. The defaults are the paper's in all but the image's size:
    `SEGMENT_RECIPES["paper"]` squashes it to the model's own, too.

    `template`: the text; a class, with its `article` ("a cat") or without, takes the place of {}.
    `subtokens`: read and emphasise a class at the "last" of its sub-tokens, or at all, as their "mean".
    `with_ing`: a word in -ing right behind the class, as in "cat sleeping", is averaged in. `size`: (h, w) in
    pixels to squash the image to; "native" is the model's own (512×512 for Stable Diffusion 1.5), None keeps
    the image's proportions. `latents`: a "sample" of the VAE's posterior, or its "mode". `timesteps`,
    `samples`: see `ov.record_image`. `weights`: {how many times smaller than the latents a resolution is: its
    weight}. `blocks`: which of the cross-attentions count (see `Trace.maps`); None takes all, the mid block's
    too. `emphasis`: factor of the class token's distance from the empty text. `power`: see `ov.complete`.
    `minmax_at`: scale each class to 0…1 at the "image"'s size, or on the "map"'s grid. `together`: one pass
    for all classes in one text, where they compete in the softmax, instead of a pass for each (a few texts
    where one cannot hold them all). `background`: the score, 0 to 1, that a class has to exceed; the paper
    tunes it on the ground truth, so here it is a guess until it is tuned. For `segment(crf=True)`, which the
    paper does not have: `crf_background`, the same, and `crf_sharpness`, the factor of all scores before a
    softmax makes probabilities of them.
    """

    template: str = "a photograph of {}"
    article: bool = False
    subtokens: str = "last"
    with_ing: bool = True
    size: Grid | str | None = None
    latents: str = "sample"
    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    weights: Mapping[int, float] = field(default_factory=lambda: {1: 0.1, 2: 0.1, 4: 0.5, 8: 0.3})
    blocks: str | None = None
    emphasis: float = 1.21
    power: int = 1
    minmax_at: str = "image"
    together: bool = False
    background: float = 0.5
    crf_background: float = 0.5
    crf_sharpness: float = 6.0

    def __post_init__(self) -> None:
        _check_template(self.template)
        timesteps = list(self.timesteps) if checks.is_list(self.timesteps) else [self.timesteps]
        if not timesteps:
            raise ValueError("There is no timestep in an empty list: give at least one, such as 100.")
        timesteps = tuple(checks.whole("timesteps", t, 0, why="count noise levels from 0") for t in timesteps)
        checks.whole("samples", self.samples, 1, why="counts draws of noise")
        weights = _checked_weights(self.weights)
        as_blocks(self.blocks)
        checks.number("emphasis", self.emphasis, 0, 1000)
        checks.whole("power", self.power, 1, MOST_POWER, why="counts completions")
        for name in ("article", "with_ing", "together"):
            checks.flag(name, getattr(self, name))
        _check_choices(self, "subtokens", "latents", "minmax_at")
        for name in ("background", "crf_background"):
            checks.number(name, getattr(self, name), 0, 1, why="is a score")
        checks.number("crf_sharpness", self.crf_sharpness, 0, 1000, above=True)
        kept = self.size is None or (isinstance(self.size, str) and self.size == "native")
        size = self.size if kept else checks.size(self.size, "size as (h, w) in pixels, 'native' or None")
        for name, value in (("timesteps", timesteps), ("weights", weights), ("size", size)):
            object.__setattr__(self, name, value)  # frozen, but as the annotations say

    @classmethod
    def of(cls, pipe) -> SegmentRecipe:
        """The recipe that was tuned for this model, if one is in its folder (`segment.json`), or the default.

        Raises ValueError for a file that is damaged.
        """
        path = Path(str(getattr(pipe, "config", {}).get("_name_or_path") or ""), TUNED)
        if not os.path.isfile(path):
            return cls()
        try:
            return cls(**json.loads(existing(path, "recipe").read_text("utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is no recipe for segmentation: {error}") from None

    def save(self, folder: str | Path) -> None:
        """Write the recipe into a model's folder, for `of`."""
        write_text(Path(folder, TUNED), json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class TokenRecipe(Recipe):
    """How a token is optimised. The defaults are the fast way, `TOKEN_RECIPES["paper"]` is OVAM's.

    `background`: what the class competes with in the softmax: the "start" token alone, as in the paper, or
    the other tokens of the "text" it began in, "a photograph of a cat", which stay as they are. `loss`:
    "bce", binary cross-entropy of the class map; or "two-channel", cross-entropy of the maps of class and
    background taken as logits, as in the published code. `normalise`: "maximum" divides by the most a map can
    reach (heads × steps, summed over blocks); "minmax" scales both maps together to 0…1. `at`: compare with
    the mask on the "map"'s grid or at the "image"'s size. `steps`: how many of the recorded steps count,
    evenly spaced; None takes all. `optimizer`: "lbfgs" (quasi-Newton, with a line search), or "adam" or
    "sgd", whose `learning_rate` is multiplied by `gamma` every `step_size` evaluations. `evaluations`: of the
    loss, at most. `proximity`: weight of ‖x − x₀‖² / ‖x₀ − x_start‖², x the class vector and x₀ the word it
    began as: where the few images decide nothing, the token stays near the word. `subtokens`: begin at the
    "mean" of a word's sub-tokens or at its "last".
    """

    background: str = "text"
    loss: str = "bce"
    normalise: str = "maximum"
    at: str = "map"
    steps: int | None = 4
    optimizer: str = "lbfgs"
    evaluations: int = 25
    learning_rate: float = 1.0
    step_size: int = 120
    gamma: float = 0.7
    proximity: float = 0.1
    subtokens: str = "mean"

    def __post_init__(self) -> None:
        _check_choices(self, "background", "loss", "normalise", "at", "optimizer", "subtokens")
        checks.whole("evaluations", self.evaluations, 1, MOST_EVALUATIONS, why="count from 1")
        if self.steps is not None:
            checks.whole("steps", self.steps, 1, why="count from 1")
        checks.number("learning_rate", self.learning_rate, 0, above=True)
        checks.whole("step_size", self.step_size, 1, why="counts steps")
        checks.number("gamma", self.gamma, 0, above=True)
        checks.number("proximity", self.proximity, 0)


def _check_choices(recipe: Recipe, *names: str) -> None:
    for name in names:
        checks.one_of(name, getattr(recipe, name), _CHOICES[name])


def _check_template(template) -> None:
    checks.instance("template", template, str, "a text with {} in the place of the class")
    try:
        filled = template.format("\0")
    except (LookupError, ValueError, AttributeError):
        filled = ""
    if filled.count("\0") != 1:
        raise ValueError(
            f"template is a text with one {{}} in the place of the class, not {checks.shown(template)}."
        )


def _checked_weights(weights) -> dict[int, float]:
    """{whole number: weight}; JSON makes strings of the keys, which are taken, too."""
    checks.instance("weights", weights, Mapping, "a mapping of resolutions, such as {1: 0.5, 2: 0.5}")
    found = {}
    for times, weight in weights.items():
        times = int(times) if isinstance(times, str) and times.isdecimal() else times
        times = checks.whole(
            "A resolution of the weights", times, 1, why="counts how many times it is smaller"
        )
        if times in found:
            raise ValueError(f"weights names the resolution {times} twice: give one weight.")
        found[times] = checks.number(f"The weight of resolution {times}", weight, 0, 1e6)
    if not any(found.values()):
        raise ValueError("weights adds up to nothing: give at least one resolution a weight above 0.")
    return found


_CHOICES = {
    "background": ("text", "start"),
    "loss": ("bce", "two-channel"),
    "normalise": ("maximum", "minmax"),
    "at": ("map", "image"),
    "optimizer": ("lbfgs", "adam", "sgd"),
    "subtokens": ("mean", "last"),
    "latents": ("sample", "mode"),
    "minmax_at": ("image", "map"),
}
SEGMENT_RECIPES = {"paper": SegmentRecipe(size="native")}
TOKEN_RECIPES = {
    "fast": TokenRecipe(),
    "paper": TokenRecipe(
        background="start",
        loss="two-channel",
        normalise="minmax",
        at="image",
        steps=None,
        optimizer="sgd",
        evaluations=800,
        learning_rate=200.0,  # 100 for each of two vectors, which move apart by the same steps
        proximity=0.0,
        subtokens="last",
    ),
}
