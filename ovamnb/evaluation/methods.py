"""The methods: from the recording of a picture to a score of every class at every pixel, and to labels.

    method = METHODS["ovam+completion"]
    scores = method(look)                   # (class, h, w) in 0 to 1, at the image's size
    cut_of(method)(scores, look.image)(.5)  # (h, w): 0 for the background, k for the k-th class

A row of a table names a method and, if they are not its own, its settings: "ovam", "ovam:token", which
queries with tokens, "ovam blocks=16+32 sharpen=completion crf=hard:token". To add a method, write a function
of a `Look` and add it to METHODS.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace

import torch
from torch import Tensor

from ..crf import after_crf, dense_crf
from ..plumbing import checks
from ..recipe import MOST_POWER, SEGMENT_RECIPES, SegmentRecipe
from ..refine import complete, minmax, resize, weigh
from ..segmentation import labels_of, segment, with_edges
from .look import MAPS, STEPS, Look
from .quoted import CUTS, TOKEN

Method = Callable[[Look], Tensor]
Cut = Callable[[Tensor, object], Callable[[float], Tensor]]
"""(scores (class, h, w), image) → threshold → labels (h, w)."""
SURE = 0.99  # what a mask's pixels are given as probability: the CRF that OVAM uses clips to [.01, .99]


def plain(scores: Tensor, image) -> Callable[[float], Tensor]:
    """A pixel gets the class of its highest score where that exceeds the threshold."""
    return lambda threshold: labels_of(scores, threshold).cpu()


def before_crf(scores: Tensor, image) -> Callable[[float], Tensor]:
    """The papers' order: threshold, a hard mask, a dense CRF that takes the mask for almost certain, and the
    more probable label. OVAM does it for one class a picture; several classes share one CRF here."""
    kept: dict[bytes, Tensor] = {}

    def labels(threshold: float) -> Tensor:
        hard = plain(scores, image)(threshold)
        key = hard.numpy().tobytes()
        if key not in kept:
            certain = torch.nn.functional.one_hot(hard, len(scores) + 1).permute(2, 0, 1).float()
            kept[key] = dense_crf(certain.clamp(1 - SURE, SURE), image).argmax(dim=0)
        return kept[key]

    return labels


def cut_of(method: Method) -> Cut:
    """How a method's scores become labels."""
    return before_crf if getattr(method, "crf", "") == "hard" else plain


@dataclass(frozen=True)
class Attention:
    """OVAM and its kin: maps of words from a recording, sharpened, scaled and cut.

    `maps`: each class "alone" in a text, all "together" in one, or in the picture's "prompt", as DAAM.
    `blocks`, `steps`, `queries`: see `Look.choices` and `Look.steps`. `sharpen`: "completion" by
    self-attention, as in DiffSegmenter, `power` times; or "weights", multiplied by the attention that each
    pixel receives, as in OVAM, from `floor` (None: the paper's) to 1. `scale`: scores are the maps divided by
    their "maximum", scaled to 0…1 ("minmax"), or scaled so before they are resized ("grid"). `crf`:
    "hard", the papers' order: cut, then a dense CRF; "soft": scores go into the CRF and are cut afterwards.
    `words`: "wrong" asks for another class in the place of each, as a control: what the score would be if the
    map only knew that something is there. `tried`: how many settings these were chosen from.
    """

    maps: str = "alone"
    blocks: str = ""
    steps: str = "all"
    queries: str = ""
    sharpen: str = "none"
    power: int = 1
    words: str = "own"
    floor: float | None = None
    scale: str = "minmax"
    crf: str = "none"
    tried: int = 1

    def __post_init__(self) -> None:
        checks.one_of("maps", self.maps, tuple(MAPS))
        checks.one_of("words", self.words, ("own", "wrong"))
        checks.one_of("sharpen", self.sharpen, ("none", "weights", "completion"))
        checks.one_of("scale", self.scale, ("minmax", "maximum", "grid"))
        checks.one_of("crf", self.crf, ("none", "soft", "hard"))
        checks.one_of("queries", self.queries, ("", "conditional", "unconditional"))
        if not (self.steps in STEPS or (self.steps.isdecimal() and int(self.steps) > 0)):
            raise ValueError(f"steps is a number or one of {', '.join(STEPS)}, not '{self.steps}'.")
        checks.whole("power", self.power, 1, MOST_POWER, why="counts completions")
        if self.floor is not None:
            checks.number("floor", self.floor, 0, 1, why="is the smallest weight")
        checks.whole("tried", self.tried, 1, why="counts settings")

    def __call__(self, look: Look) -> Tensor:
        look = look.for_others() if self.words == "wrong" else look
        choices = look.choices(self.blocks, self.steps, self.queries)
        heats = look.once((self.maps, repr(choices)), lambda: MAPS[self.maps](look, **choices))
        if self.sharpen == "completion":
            heats = complete(heats, look.affinity(), power=self.power)
        if self.scale == "grid":
            heats = minmax(heats)
        scores = resize(heats, look.image)
        if self.scale == "minmax":
            scores = minmax(scores)
        elif self.scale == "maximum":
            scores = scores / scores.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
        if self.sharpen == "weights":
            asked = "tokens" if look.tokens else "words"
            floor = CUTS[look.like]["ovam+weights+crf"][asked].floor if self.floor is None else self.floor
            scores = weigh(scores, look.affinity(), floor=floor)
        return after_crf(scores, look.image) if self.crf == "soft" else scores


@dataclass(frozen=True)
class Segmenter:
    """DiffSegmenter, which records the picture itself instead of using a trace.

    `recipe`: "tuned", that of the model's folder, or the "paper"'s; `changes` of its fields. `crf`, `tried`:
    as for `Attention`; the "soft" CRF is that of `ov.segment(crf=True)`.
    """

    recipe: str = "tuned"
    changes: Mapping[str, object] = field(default_factory=dict)
    crf: str = "none"
    tried: int = 1

    def __post_init__(self) -> None:
        checks.one_of("recipe", self.recipe, ("tuned", "paper"))
        checks.one_of("crf", self.crf, ("none", "soft", "hard"))
        SegmentRecipe().changed(self.changes)  # raises for values out of range
        checks.whole("tried", self.tried, 1, why="counts settings")

    def __call__(self, look: Look) -> Tensor:
        recipe = SEGMENT_RECIPES["paper"] if self.recipe == "paper" else SegmentRecipe.of(look.pipe)
        recipe = recipe.changed(self.changes)
        options = {"recipe": recipe, "caption": look.caption, "seed": look.seed}
        asks = look.asks()
        if self.recipe == "paper":
            asks = [look.spoken.get(ask, ask) if isinstance(ask, str) else ask for ask in asks]
        scores = look.once(repr(recipe), lambda: segment(look.pipe, look.image, asks, **options).scores)
        if self.crf != "soft":
            return scores
        return with_edges(scores, look.image, recipe.crf_background, recipe.crf_sharpness)[1:]


OVAM = Attention()
METHODS: dict[str, Method] = {
    "daam": Attention(maps="prompt", scale="maximum"),
    "ovam-map": Attention(queries="unconditional", scale="maximum"),
    "attn2mask": Attention(steps="middle", queries="unconditional", scale="grid", crf="hard"),
    "ovam+weights+crf": Attention(queries="unconditional", sharpen="weights", scale="maximum", crf="hard"),
    "diffsegmenter-paper": Segmenter(recipe="paper"),
    "ovam": OVAM,
    "ovam+completion": replace(OVAM, sharpen="completion"),
    "ovam+completion+crf": replace(OVAM, sharpen="completion", crf="hard"),
    "ovam+completion+soft-crf": replace(OVAM, sharpen="completion", crf="soft"),
    "ovam-together+completion+soft-crf": replace(OVAM, maps="together", sharpen="completion", crf="soft"),
    "ovam-wrong-word+completion": replace(OVAM, sharpen="completion", words="wrong"),
    "diffsegmenter": Segmenter(),
    "diffsegmenter+crf": Segmenter(crf="hard"),
    "diffsegmenter+soft-crf": Segmenter(crf="soft"),
}
"""The first five are the papers' own, in the papers' order of steps; "ovam-map" is what OVAM's authors call
DAAM. The others are ours; one is a control."""


def parse(row: str, methods: Mapping[str, Method] = METHODS) -> tuple[Method, bool]:
    """A row such as "ovam sharpen=completion:token" → the method, and whether it queries with tokens.
    ValueError, naming what there is, for an unknown method or setting."""
    text = row.removesuffix(TOKEN)
    name, settings = (text, []) if text in methods else (text.split(" ")[0], shlex.split(text)[1:])
    if name not in methods:
        raise ValueError(
            f"There is no method '{name}': choose of {', '.join(methods)}; with '{TOKEN}' behind it, one "
            "asks with tokens."
        )
    method = methods[name]
    if settings:
        method = _with_settings(name, method, dict(part.partition("=")[::2] for part in settings))
    return method, row.endswith(TOKEN)


def _with_settings(name: str, method: Method, settings: Mapping[str, str]) -> Method:
    """The method with settings changed that are given as text."""
    if not is_dataclass(method):
        raise ValueError(f"'{name}' has no settings to change.")
    own = {each.name: getattr(method, each.name) for each in fields(method)}
    inner = {each.name for each in fields(SegmentRecipe)} if isinstance(method, Segmenter) else set()
    for setting in settings:
        if setting not in own.keys() - {"changes"} | inner:
            known = ", ".join(sorted(own.keys() - {"changes"} | inner))
            raise ValueError(f"'{name}' has no setting '{setting}': choose of {known}.")
    try:
        texts = {k for k, value in own.items() if isinstance(value, str)} | {"template"}  # {} is no mapping
        values = {k: v if k in texts else read(v) for k, v in settings.items()}
        changes = {k: v for k, v in values.items() if k in inner}
        outer = {k: v for k, v in values.items() if k not in inner}
        return replace(method, **outer, **({"changes": {**own["changes"], **changes}} if changes else {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{name}': {error}") from None


def read(text: str) -> object:
    """A number, a tuple, a mapping or a truth value, as in Python: 2, (100,200), {1:.5}, True; anything
    else is text."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def needs_crf(row: str, methods: Mapping[str, Method] = METHODS) -> bool:
    """Whether a method needs the dense CRF, an optional dependency; a function says so by its name."""
    method, _ = parse(row, methods)
    return getattr(method, "crf", "none") != "none" or "crf" in row.split(" ")[0]


def tried(row: str, methods: Mapping[str, Method] = METHODS) -> int | None:
    """How many settings a row's were chosen from, on validation pictures; 1 where none were compared, None
    where they come from elsewhere: the recipe of a model's folder."""
    try:
        method = parse(row, methods)[0]
    except ValueError:  # of a table made with methods of one's own
        return 1
    return None if getattr(method, "recipe", "") == "tuned" else getattr(method, "tried", 1)


def paper_threshold(row: str, like: str = "ovam-voc-sim") -> float | None:
    """The threshold that the OVAM paper gives for a method, on its set that the data are `like`; None where
    it gives none."""
    cuts = CUTS.get(like, {}).get(row.removesuffix(TOKEN), {})
    cut = cuts.get("tokens" if row.endswith(TOKEN) else "words")
    return None if cut is None else cut.threshold


def labels_at(labels: Tensor, asked: Sequence[int]) -> Tensor:
    """Labels (h, w) that count the asked classes from 1 → the classes' own labels, (h, w) int64."""
    return torch.tensor([0, *asked])[labels]
