"""The methods: from the recording of a picture to a score of every class at every pixel.

    METHODS["ovam+completion"](look)        # (class, h, w) in 0 to 1, at the image's size

A pixel gets the class of its highest score if that exceeds a threshold: `labels_at`. Every method's scores
are scaled to 0…1, class by class, so that only the methods differ. To add one, write a function and add it to
METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from ..baselines import attn2mask, daam
from ..crf import after_crf, dense_crf
from ..plumbing.english import mentions, with_article
from ..recipe import SegmentRecipe
from ..refine import complete, minmax, resize, weigh
from ..segmentation import labels_of, segment, that_fit
from ..tokens import Token
from ..trace import Trace


@dataclass(frozen=True)
class Look:
    """All that a method knows of a picture.

    `trace`: recorded while the model generated the picture from `prompt`, or while it denoised the noised
    picture with `prompt`. `asked`: the classes to find. `tokens`: class → the token to query with instead of
    its word. `row`: the picture's index in the recorded batch.
    """

    pipe: object
    image: Image.Image
    trace: Trace
    prompt: str
    asked: tuple[str, ...]
    tokens: Mapping[str, Token] = field(default_factory=dict)
    row: int = 0

    def asks(self) -> list[str | Token]:
        """The query of each class: its token, or else its word."""
        return [self.tokens.get(name, name) for name in self.asked]


Method = Callable[[Look], Tensor]


def ovam(
    look: Look, *, sharpen: str | None = None, crf: bool = False, together: bool = False, scale=minmax
) -> Tensor:
    """OVAM: each class in a text of its own, "a photograph of a cat", or all `together` in one.

    `sharpen`: "weigh" multiplies by the attention that each pixel receives, as OVAM does (floor 0.85, for
    tokens 0.95); "complete" completes the maps by self-attention, as DiffSegmenter does. `scale`: maps
    (class, h, w) → scores.
    """
    heats = torch.stack(together_maps(look) if together else [alone_map(look, ask) for ask in look.asks()])
    affinity = finest_affinity(look) if sharpen else None
    if sharpen == "weigh":
        heats = weigh(heats, affinity, floor=0.95 if look.tokens else 0.85)
    elif sharpen == "complete":
        heats = complete(heats, affinity)
    scores = scale(resize(heats, look.image))
    return after_crf(scores, look.image) if crf else scores


def alone_map(look: Look, ask: str | Token) -> Tensor:
    """The map (h, w) of one class, queried alone."""
    if isinstance(ask, Token):
        return look.trace.maps(ask, image=look.row)[ask.word]
    return look.trace.maps(f"a photograph of {with_article(ask)}", image=look.row)[ask]


def together_maps(look: Look) -> list[Tensor]:
    """The maps (h, w) of all classes, queried in one text, where they compete; in several texts if one cannot
    hold them all."""
    if look.tokens:
        maps = look.trace.maps(look.asks(), image=look.row)
        return [maps[name] for name in look.asked]

    def sentence(names: tuple[str, ...]) -> str:
        return f"a photograph of {listed(names)}"

    groups = that_fit(look.pipe, look.asked, sentence)
    found = (look.trace.maps(sentence(group), image=look.row) for group in groups)
    return [
        maps.values[place].mean(dim=0)
        for group, maps in zip(groups, found, strict=True)
        for place in maps.text.places(group)
    ]


def daam_scores(look: Look) -> Tensor:
    """DAAM finds words of the prompt only: a class that is not among them scores 0 everywhere."""
    device = next(iter(look.trace.key_weights.values())).device
    heats = [
        daam(look.trace, look.prompt, ask, image=look.row)
        if mentions(look.prompt, name)
        else torch.zeros(1, 1, device=device)
        for name, ask in zip(look.asked, look.asks(), strict=True)
    ]
    return torch.stack([minmax(resize(heat, look.image)) for heat in heats])


def attn2mask_scores(look: Look) -> Tensor:
    """Attn2Mask: one step's map m against the background's 1 − m − β, then a dense CRF; the paper's mask is
    where the score exceeds 0.5."""
    scores = []
    for name, ask in zip(look.asked, look.asks(), strict=True):
        text = ask if isinstance(ask, Token) else f"a photograph of {with_article(ask)}"
        pair = resize(attn2mask(look.trace, text, name, image=look.row), look.image).clamp(min=0)
        scores.append(dense_crf(pair / pair.sum(dim=0), look.image)[1])
    return torch.stack(scores)


def diffsegmenter(look: Look, *, recipe: SegmentRecipe | None = None, crf: bool = False) -> Tensor:
    """DiffSegmenter, with the recipe that was tuned for the model, or another. It records the picture itself
    instead of using `look.trace`."""
    return segment(look.pipe, look.image, look.asks(), recipe=recipe, crf=crf).scores


METHODS: dict[str, Method] = {
    "daam": daam_scores,
    "attn2mask": attn2mask_scores,
    "ovam": ovam,
    "ovam+weights+crf": partial(ovam, sharpen="weigh", crf=True),
    "ovam+completion": partial(ovam, sharpen="complete"),
    "ovam+completion+crf": partial(ovam, sharpen="complete", crf=True),
    "ovam-together+completion+crf": partial(ovam, sharpen="complete", crf=True, together=True),
    "diffsegmenter": diffsegmenter,
    "diffsegmenter-paper": partial(diffsegmenter, recipe=SegmentRecipe()),
    "diffsegmenter+crf": partial(diffsegmenter, crf=True),
}
PAPER: dict[str, tuple[float, float]] = {
    "daam": (0.4, 0.8),
    "attn2mask": (0.5, 0.5),
    "ovam+weights+crf": (0.4, 0.75),
}
"""Method → the thresholds that its paper gives, for words and for tokens."""
TOKEN = ":token"


def parse(row: str, methods: Mapping[str, Method] = METHODS) -> tuple[Method, bool]:
    """A name such as "ovam+completion:token" → the method, and whether it queries with tokens. ValueError,
    naming the methods, for an unknown one."""
    name = row.removesuffix(TOKEN)
    if name not in methods:
        raise ValueError(
            f"There is no method '{name}': choose of {', '.join(methods)}; with '{TOKEN}' behind it, one "
            "asks with tokens."
        )
    return methods[name], row.endswith(TOKEN)


def needs_crf(row: str) -> bool:
    """Whether a method needs the dense CRF, an optional dependency."""
    return "crf" in row or row.startswith("attn2mask")


def paper_threshold(row: str) -> float | None:
    """The threshold that the method's paper gives, if it gives one."""
    pair = PAPER.get(row.removesuffix(TOKEN))
    return None if pair is None else pair[row.endswith(TOKEN)]


def labels_at(scores: Tensor, asked: Sequence[int], threshold: float) -> Tensor:
    """scores (class, h, w) of the labels `asked` → (h, w) int64: the label of the highest score where it
    exceeds the threshold, else 0."""
    return torch.tensor([0, *asked])[labels_of(scores, threshold).cpu()]


def listed(names: Sequence[str]) -> str:
    """ "a cat, a car and a tree"; "something" where there is no name."""
    if not names:
        return "something"
    *head, last = map(with_article, names)
    return f"{', '.join(head)} and {last}" if head else last


def finest_affinity(look: Look) -> Tensor:
    """The self-attention of the finest grid that was recorded, (h·w, h·w)."""
    grid = max(look.trace.affinities, key=lambda grid: grid[0] * grid[1])
    return look.trace.self_attention(grid, image=look.row)
