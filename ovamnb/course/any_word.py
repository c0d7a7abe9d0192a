"""Chapter 03: its predictions, its exercises, its drawing."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..plot.diagrams import arrow, box, drawing, note
from ..refine import binarize, resize
from ..trace import Trace
from .exercises import Exercise, Open
from .whole_map import WHOLE_MAP

TITLE = "Any word"
MARGIN = 0.35  # of IoU, by which a text has to beat the plain one
PREDICTIONS: dict[str, str] = {
    "03.1": "what a pixel pays to a weaker word, and to a word said twice",
    "03.2": "which token of a text gets the most attention",
    "03.3": "what padding changes in a map",
    "03.4": "beside which words two maps are least alike",
    "03.5": "which kind of text costs the most IoU",
    "03.6": "on which rank of 20 000 words cat stands, at a place on the cat",
}


def diagram() -> Figure:
    """One recording, many texts: the queries stay, the keys are exchanged."""
    figure, ax = drawing(11.2, 4.1)
    prompt = box(ax, 0.1, 3.1, "prompt\na cat and a car on grass", "text", width=2.5)
    unet = box(ax, 3.5, 3.1, "UNet, step by step", "plain", width=2.2)
    image = box(ax, 8.9, 3.1, "image", "image", width=1.4)
    arrow(ax, prompt, unet, "K and V")
    arrow(ax, unet, image)
    note(ax, 8.9, 4.07, "made once")

    kept = box(ax, 3.5, 1.85, "queries Q, recorded", "image", width=2.2, height=0.65)
    arrow(ax, unet, kept)
    note(ax, 0.1, 2.15, "any text, later, as often as you like")
    softmax = box(ax, 6.5, 0.6, "softmax\nover the tokens\nof this text", "attention", width=1.6, height=1.2)
    arrow(ax, kept, softmax, curve=-0.15)
    keys = box(ax, 3.5, 0.85, "new keys K′ = W_K X′", width=2.2, height=0.7)
    arrow(ax, keys, softmax)
    for y, text in ((1.25, "a photograph of kitten"), (0.65, "a puppy and a truck"), (0.05, "no cat")):
        asked = box(ax, 0.1, y, text, "text", width=2.5, height=0.45, size=8)
        arrow(ax, asked, keys)
    maps = box(ax, 8.9, 0.8, "a map for\neach token", "result", width=1.4)
    arrow(ax, softmax, maps)
    return figure


def share_of_a_mention(scores: Tensor, word: int, mentions: int) -> Tensor:
    """`scores` (pixel, token) of a text that says each token once → (pixel,): what one mention of `word`
    gets where the text says it `mentions` times."""
    weight = scores.exp()
    own = weight[:, word]
    return own / (weight.sum(dim=-1) + (mentions - 1) * own)


def _share_cases(generator: torch.Generator) -> list[tuple]:
    return [
        (torch.randn(5, 4, generator=generator), 1, 2),
        (torch.randn(3, 6, generator=generator), 4, 3),
    ]


SHARES = Exercise(
    name="03.a",
    title="a word that is said twice",
    stars=1,
    cases=_share_cases,
    right=share_of_a_mention,
    ideas={
        "That is the share without a further mention: the new mention stands below the line, too.": (
            lambda scores, word, mentions: scores.softmax(dim=-1)[:, word]
        ),
        "The old share was only divided among the mentions. But a second mention also takes from the other "
        "tokens, so together they get more than the one got.": lambda scores, word, mentions: (
            scores.softmax(dim=-1)[:, word] / mentions
        ),
        "That is what all mentions get together. What does one of them get?": lambda scores, word, mentions: (
            mentions * share_of_a_mention(scores, word, mentions)
        ),
        "A mention adds another exp(score) below the line. You multiplied the score itself, before exp.": (
            lambda scores, word, mentions: _with_multiplied_score(scores, word, mentions)
        ),
        "The scores were divided as they are. The softmax takes exp of each score first.": (
            lambda scores, word, mentions: (
                scores[:, word] / (scores.sum(dim=-1) + (mentions - 1) * scores[:, word])
            )
        ),
        "The shares of the tokens sum to 1 at each pixel. Yours sum over the pixels (dim=0).": (
            lambda scores, word, mentions: (
                share_of_a_mention(scores, word, mentions) * 0 + _over_pixels(scores, word, mentions)
            )
        ),
        "This counts one mention too many: the text says the word `mentions` times in all.": (
            lambda scores, word, mentions: share_of_a_mention(scores, word, mentions + 1)
        ),
    },
    says="Each mention gets less, and all of them together get more.",
    otherwise="Write the softmax as a fraction: exp(score) of the word above, the sum over all tokens below.",
)


def _with_multiplied_score(scores: Tensor, word: int, mentions: int) -> Tensor:
    weight = scores.exp()
    below = weight.sum(dim=-1) - weight[:, word] + (mentions * scores[:, word]).exp()
    return weight[:, word] / below


def _over_pixels(scores: Tensor, word: int, mentions: int) -> Tensor:
    extra = scores[:, word : word + 1].expand(-1, mentions - 1)
    return torch.cat([scores, extra], dim=-1).softmax(dim=0)[:, word]


def iou_of(trace: Trace, text: str, word: str, mask: Tensor) -> float:
    """How well the map of `word` in `text`, cut halfway between its lowest and its highest value, covers a
    mask (h, w) bool: the overlap over the union, 0 to 1."""
    cut = binarize(resize(trace.maps(text)[word].cpu(), mask), 0.5)
    return ((cut & mask).sum() / (cut | mask).sum()).item()


def judge_text(text: str, *, trace: Trace, word: str, mask: Tensor) -> tuple[bool, str]:
    """Whether the map of `word` in the reader's text beats "a photograph of `word`" by MARGIN in IoU."""
    if not isinstance(text, str):
        return False, "An attribution text is a string, such as 'a photograph of a car'."
    plain = iou_of(trace, f"a photograph of {word}", word, mask)
    try:
        mine = iou_of(trace, text, word, mask)
    except (KeyError, ValueError) as error:  # the word is missing, or another one is unknown
        return False, f"This text cannot be used: {error.args[0]}"
    said = f"Your map of {word} has an IoU of {mine:.2f}, the plain text's {plain:.2f}"
    if mine >= plain + MARGIN:
        return True, f"{said}: the words around it made the difference."
    if mine < plain + 0.05:
        hint = "What else is in the picture, and takes nothing yet because no word names it?"
    else:
        hint = "Is everything in the picture named? The order and the other words count, too."
    return False, f"{said}; {plain + MARGIN:.2f} is wanted. {hint}"


EXERCISES: tuple[Exercise | Open, ...] = (
    SHARES,
    WHOLE_MAP,
    Open("03.c", "write the text that cuts out the car", judge_text),
)
