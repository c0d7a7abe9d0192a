"""What a method is given of a picture, and the maps that it can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from ..baselines import daam
from ..data.base import Data
from ..plumbing.english import listed, mentions
from ..segmentation import Captioner, that_fit
from ..select import evenly
from ..tokens import Token
from ..trace import Trace

STEPS = ("all", "first-half", "last-half", "quarter", "middle", "three-quarters", "last")


@dataclass(frozen=True)
class Look:
    """All that a method knows of a picture.

    `trace`: recorded while the model generated the picture from `prompt`, or while it denoised the noised
    picture with `prompt`. `asked`: the classes to find. `tokens`: class → the token to query with instead of
    its word. `row`: the picture's index in the recorded batch. `like`: which of the OVAM paper's sets the
    picture's is like, whose values then apply (see `Data.like`). `question`: class → the text to ask it by,
    and the word in it (see `Data.question`). `caption`: what follows DiffSegmenter's prompts. `classes`:
    all of the data set. `spoken`: class → the word that DiffSegmenter's authors have for it. `seed`: of the
    noise on a given picture.
    """

    pipe: object
    image: Image.Image
    trace: Trace
    prompt: str
    asked: tuple[str, ...]
    tokens: Mapping[str, Token] = field(default_factory=dict)
    row: int = 0
    like: str = "ovam-voc-sim"
    question: Callable[[str], tuple[str, str]] = Data().question
    caption: str | Captioner = ""
    classes: tuple[str, ...] = ()
    spoken: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def for_others(self) -> Look:
        """The same picture, asked in place of each class for another one that it is not asked for. ValueError
        where there is no other."""
        others = [name for name in self.classes if name not in self.asked]
        if not others:
            raise ValueError("There is no class that is not asked for: leave out the row with wrong words.")
        far = len(others) // 2  # a neighbour in the list may be akin
        places = [self.classes.index(name) + far for name in self.asked]
        return replace(self, asked=tuple(others[place % len(others)] for place in places))

    def asks(self) -> list[str | Token]:
        """The query of each class: its token, or else its word."""
        return [self.tokens.get(name, name) for name in self.asked]

    def once(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, made once for a key: methods that differ in what they do with it share it."""
        made = self.__dict__.setdefault("_made", {})
        if key not in made:
            made[key] = make()
        return made[key]

    def affinity(self) -> Tensor:
        """The self-attention of the finest grid that was recorded, (h·w, h·w)."""
        grid = max(self.trace.affinities, key=lambda grid: grid[0] * grid[1])
        return self.trace.self_attention(grid, image=self.row)

    def steps(self, which: str) -> list[int] | None:
        """The recorded steps that one of STEPS, or a number of evenly spaced ones, stands for; None for all.
        Each of "quarter", "middle", "three-quarters" and "last" is one step. A drawn picture's first steps
        are the noisiest; a given one's are recorded from little noise to much."""
        recorded, passes = self.trace.steps, self.trace.passes or self.trace.steps[-1] + 1
        single = {"quarter": passes // 4, "middle": passes // 2, "three-quarters": 3 * passes // 4}
        single["last"] = passes - 1
        if which == "all":
            return None
        if which in single:
            return [min(recorded, key=lambda step: abs(step - single[which]))]
        if which in ("first-half", "last-half"):
            half = [step for step in recorded if (step < passes / 2) == (which == "first-half")]
            return half or [recorded[0 if which == "first-half" else -1]]
        return [recorded[i] for i in evenly(len(recorded), int(which))]

    def choices(self, blocks: str, steps: str, queries: str) -> dict[str, object]:
        """The options of `Trace.maps`. `blocks`: the longer sides of grids, "16+32", or a part of the
        blocks' names, "up_blocks.3"; "" for all but the mid block's. `queries`: a half that was perhaps not
        recorded: the other is taken then, since a picture without guidance has only one."""
        sides = blocks.split("+")
        chosen = [int(side) for side in sides] if all(map(str.isdecimal, sides)) else blocks or None
        found: dict[str, object] = {"image": self.row, "blocks": chosen, "steps": self.steps(steps)}
        return found | ({"queries": queries} if queries in self.trace.queries else {})


def alone(look: Look, **choices) -> Tensor:
    """OVAM's maps (class, h, w): each class in a text of its own, "a photograph of a cat"."""
    found = []
    for ask in look.asks():
        text, word = (ask, ask.word) if isinstance(ask, Token) else look.question(ask)
        found.append(look.trace.maps(text, **choices)[word])
    return torch.stack(found)


def together(look: Look, **choices) -> Tensor:
    """OVAM's maps (class, h, w): all classes in one text, where they compete; in several texts if one cannot
    hold them all."""
    if look.tokens:
        maps = look.trace.maps(look.asks(), **choices)
        return torch.stack([maps[name] for name in look.asked])

    def sentence(names: tuple[str, ...]) -> str:
        return f"a photograph of {listed(names)}"

    groups = that_fit(look.pipe, look.asked, sentence)
    found = (look.trace.maps(sentence(group), **choices) for group in groups)
    return torch.stack(
        [
            maps.values[place].mean(dim=0)
            for group, maps in zip(groups, found, strict=True)
            for place in maps.text.places(group)
        ]
    )


def in_the_prompt(look: Look, **choices) -> Tensor:
    """DAAM's maps (class, h, w). It finds words of the prompt only: a class that is not among them scores 0
    everywhere."""
    choices.pop("queries", None)
    found = [
        daam(look.trace, look.prompt, ask, **choices) if mentions(look.prompt, name) else None
        for name, ask in zip(look.asked, look.asks(), strict=True)
    ]
    size = max(look.trace.affinities, key=lambda grid: grid[0] * grid[1])
    blank = next((0 * heat for heat in found if heat is not None), torch.zeros(size).to(look.affinity()))
    return torch.stack([blank if heat is None else heat for heat in found])


MAPS: dict[str, Callable[..., Tensor]] = {"alone": alone, "together": together, "prompt": in_the_prompt}
"""Name → (look, options of `Trace.maps`) → maps (class, h, w) of the asked classes."""
