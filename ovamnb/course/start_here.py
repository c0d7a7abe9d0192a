"""Chapter 00: its predictions, its exercises, what it shows of the model card."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..models import BUNDLED
from ..notebook import Settings, sign
from ..plot.figures import LABELS, new_figure
from ..select import Blocks
from ..trace import Trace
from .exercises import Exercise, Open
from .first_pictures import Masks, means_on

TITLE = "Start here"
PREDICTIONS: dict[str, str] = {
    "00.1": "where four new words are found",
    "00.2": "in how many of eight pictures the words are found",
    "00.3": "the highest peak: a word that is there or one that is not",
    "00.4": "how well a wrong word does",
}
CLEARLY = 1.5  # times the attention of any other region
UNLIKE = 0.16  # cosine, at most: *kitten* has .8 with *cat*, *horse* .3
ORDINARY = "house tree river music number happy run paper idea school city time door water".split()


def best_block(settings: Settings) -> Blocks | None:
    """The block whose maps are best on the model's card, so that a chapter shows what the card measures; for
    another model than the bundled one, what is known to serve best."""
    return card()["best_block"].split(".transformer_blocks")[0] if settings.bundled else settings.best


def card() -> dict:
    """The figures of the bundled model's card."""
    return json.loads((BUNDLED / "figures.json").read_text("utf-8"))


def measured() -> dict[str, dict[str, float]]:
    """The card's mIoU of the best block's map: objects → "class word", "held-out word", "wrong word"."""
    figures = card()
    rows = {"one object": figures["maps_one_object"], "one to three objects": figures["maps"]}
    names = {"class word": "class", "held-out word": "held out", "wrong word": "wrong"}
    best = figures["best_block"]
    return {title: {name: row[best][key] for name, key in names.items()} for title, row in rows.items()}


def draw_measured() -> Figure:
    """`measured` as bars."""
    table = measured()
    figure = new_figure(6.2, 2.8)
    ax = figure.subplots()
    for k, name in enumerate(next(iter(table.values()))):
        for g, row in enumerate(table.values()):
            x = g + 0.27 * (k - 1)
            ax.bar(x, row[name], 0.25, color=(LABELS[0], LABELS[4], LABELS[7])[k], label=None if g else name)
            ax.text(x, row[name] + 0.015, f"{row[name]:.2f}", ha="center", fontsize=9)
    ax.set(ylim=(0, 1), xticks=range(len(table)), ylabel="overlap (mIoU)")
    ax.set_xticklabels([f"scenes of {title}" for title in table])
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    sign(
        figure,
        f"the bundled model's card: {card()['scenes']} held-out rendered scenes of each kind, best block",
    )
    return figure


def _lies_on(heat: Tensor, masks: Masks) -> str:
    means = {name: float(heat[mask].mean()) for name, mask in masks.items()}
    return max(means, key=means.get)


def _cases(generator: torch.Generator) -> list[tuple]:
    """A map and three masks that share its places, small, middle and large, in turn the right one."""
    cases = []
    for k, (h, w) in enumerate(((7, 5), (6, 9), (11, 8), (5, 7), (9, 6), (8, 11))):
        heat = 0.3 * torch.rand(h, w, generator=generator)
        order = torch.randperm(h * w, generator=generator)
        labels = torch.full((h * w,), 2)
        labels[order[: h * w // 3]] = 1
        labels[order[: h * w // 7]] = 0
        labels = labels.view(h, w)
        masks = {name: labels == i for i, name in enumerate(("cat", "car", "grass"))}
        more = 0.6 if k % 3 == 1 else 0.15  # so much that the car's sum wins, too
        heat[masks[("cat", "car", "grass")[k % 3]]] += more
        heat.view(-1)[order[-1 if k % 3 != 2 else 0]] = 0.9  # one bright place in a wrong region
        cases.append((heat, masks))
    return cases


def _reduced(how) -> object:
    def answer(heat: Tensor, masks: Masks) -> str:
        values = {name: float(how(heat, mask)) for name, mask in masks.items()}
        return max(values, key=values.get)

    return answer


def _finds_the_car(word: str, trace: Trace, masks: Masks | None, block: Blocks | None) -> tuple[bool, str]:
    """Does a word other than the obvious ones lie on the car?"""
    if masks is None:
        return False, "No mask is stored for this picture: take the prompt and the seed of the chapter."
    word = str(word).strip().lower()
    if word in ("car", "cars", "automobile", "vehicle", "auto"):
        return False, f"'{word}' is one of the excluded words: find out how far a meaning reaches."
    means = means_on(trace.maps(f"a photograph of {word}", blocks=block).share[word], masks)
    said = ", ".join(f"{mean:.2f} on the {name}" for name, mean in means.items())
    others = {name: mean for name, mean in means.items() if name != "car"}
    nearest = max(others, key=others.get)
    if means["car"] > CLEARLY * others[nearest]:
        return True, f"'{word}' lies on the car: {said}."
    if means["car"] > others[nearest]:
        return False, f"'{word}' lies on the car, but hardly more than on the {nearest}: {said}."
    return False, f"'{word}' lies on the {nearest}: {said}. Try kinds of cars, or what goes on roads."


def likeness(trace: Trace, word: str, other: str) -> float:
    """The cosine of two words' vectors as the UNet reads them, less the mean of ORDINARY words, -1 to 1."""

    def vector(name: str) -> Tensor:
        text = trace.text_of(name)
        return text.states[1:-1].float().cpu().mean(dim=0)  # without start and end

    mean = torch.stack([vector(name) for name in ORDINARY]).mean(dim=0)
    return float(F.cosine_similarity(vector(word) - mean, vector(other) - mean, dim=0))


def _is_a_stranger(
    words: Sequence[str], trace: Trace, masks: Masks | None, block: Blocks | None
) -> tuple[bool, str]:
    """Do three words that have nothing to do with a cat lie on it?"""
    if masks is None:
        return False, "No mask is stored for this picture: take the prompt and the seed of the chapter."
    words = [words] if isinstance(words, str) else [str(word).strip().lower() for word in words]
    good, lines = set(), []
    for word in words:
        near = likeness(trace, word, "cat")
        means = means_on(trace.maps(f"a photograph of {word}", blocks=block).share[word], masks)
        rest = max(means["car"], means["grass"])
        if near > UNLIKE:
            lines.append(f"'{word}' is too near to cat in language ({near:.2f}, at most {UNLIKE})")
        elif means["cat"] < CLEARLY * rest:
            lines.append(f"'{word}' does not lie on the cat ({means['cat']:.2f} there, {rest:.2f} elsewhere)")
        else:
            good.add(word)
            lines.append(f"'{word}' is a stranger on the cat ({near:.2f} like it, {means['cat']:.2f} there)")
    return len(good) >= 3, f"{len(good)} of 3 found: " + "; ".join(lines) + "."


EXERCISES: tuple[Exercise | Open, ...] = (
    Open("00.a", "A word that finds the car", _finds_the_car, stars=1),
    Exercise(
        name="00.b",
        title="Where a map lies",
        stars=2,
        cases=_cases,
        right=_lies_on,
        ideas={
            "You summed the heat. The largest region nearly always wins then: take the mean.": _reduced(
                lambda heat, mask: heat[mask].sum()
            ),
            "One bright place decided, which may be bright by chance: use all places of a mask.": _reduced(
                lambda heat, mask: heat[mask].max()
            ),
            "The region with the least attention came out: turn the comparison round.": _reduced(
                lambda heat, mask: -heat[mask].mean()
            ),
            "That is the size of the masks, and the map plays no part in it.": _reduced(
                lambda heat, mask: mask.sum()
            ),
            "These are the means. The exercise asks for the name of the mask with the largest one.": (
                lambda heat, masks: {name: float(heat[mask].mean()) for name, mask in masks.items()}
            ),
        },
        says="Means are fair: large and small regions count alike.",
        otherwise="For each mask, take the heat inside it, then its mean; give back the name of the largest.",
    ),
    Open("00.c", "Three strangers on the cat", _is_a_stranger),
)
