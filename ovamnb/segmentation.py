"""DiffSegmenter: an image segmented into named classes, without training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from .class_maps import class_maps
from .crf import dense_crf, load_crf
from .images import as_rgb, encode_image, prepare
from .pipelines import free_bytes
from .plumbing import checks
from .plumbing.english import with_article
from .recipe import SEGMENT_RECIPES, SegmentRecipe
from .refine import minmax, stretched
from .select import Grid
from .text import TextEncoder, composed
from .tokens import Token
from .unet import attention_grids, require_parts

AT_ONCE = 16  # classes at the image's size: 16 MB at 512×512
Filter = Callable[[object, Sequence[str]], Sequence[str]]
"""(image, candidate classes) → those that the image shows: see `ovamnb.evidence`."""
Captioner = Callable[[object, str], str]
"""(image, start of a text) → its continuation: see `ovamnb.evidence`."""


@dataclass(frozen=True)
class Segmentation:
    """An image segmented into classes.

    result = ov.segment(pipe, image, ["cat", "car"])
    result.labels            # (h, w) int64: 0 is the background, k the class classes[k - 1]
    result.mask("cat")       # (h, w) bool
    result.scores            # (class, h, w), 0 to 1, at the image's size: `maps`, the attention's, stretched
    """

    labels: Tensor
    maps: Tensor
    classes: tuple[str, ...]
    background: float

    @cached_property
    def scores(self) -> Tensor:
        """Made when they are first asked for: of 500 classes, at 512×512, half a gigabyte."""
        return stretched(self.maps, self.labels.shape)

    def mask(self, name: str) -> Tensor:
        """The pixels of a class; KeyError, naming the classes, for another word."""
        name = composed(name) if isinstance(name, str) else name
        if name not in self.classes:
            raise KeyError(f"'{name}' is none of the classes: {', '.join(self.classes) or 'there is none'}.")
        return self.labels == self.classes.index(name) + 1

    def __repr__(self) -> str:
        shares = [f"{name} {self.mask(name).float().mean():.0%}" for name in self.classes]
        h, w = self.labels.shape
        return f"Segmentation({h}×{w}: {', '.join(shares) or 'no class'}, the rest background)"


def segment(
    pipe,
    image,
    classes: Sequence[str | Token],
    *,
    caption: str | Captioner = "",
    keep: Filter | None = None,
    recipe: SegmentRecipe | str | None = None,
    crf: bool = False,
    seed: int = 0,
    batch: int = 8,
    **changes,
) -> Segmentation:
    """Segment an image into the named classes and a background.

        result = ov.segment(pipe, image, ["cat", "car", "tree"])
        ov.show_labels(image, result.labels, result.classes)

    For each class c the UNet denoises the image, slightly noised, with the prompt "a photograph of c" and
    the `caption`: a text, or a function that continues each class's prompt (`ovamnb.evidence`). The
    cross-attention to c, a weighted sum over resolutions r, is completed by self-attention:
    M_c = A_self · Σ_r w_r minmax(A_r[c]). Each M_c is scaled to 0…1, and each pixel gets the class with the
    highest, or the background where none exceeds its score. (DiffSegmenter, TIP 2025, arXiv 2309.02773.)

    A class may be a `Token` (`ov.optimize_token`): its vector takes the place of its word in the prompt.

    `keep` drops classes that the image does not show (`ovamnb.evidence`): each class that is left gets a part
    of the image, whether it is there or not. `recipe`: None takes `SegmentRecipe.of(pipe)`, "paper" is in
    `SEGMENT_RECIPES`; `changes` are fields of it, such as background=0.4. `crf`: a dense CRF moves the
    borders to the image's own edges (see `ov.dense_crf`); the scores are then probabilities, which sum to 1
    with the background's. `batch`: how many prompts pass the UNet at once, at most: fewer where their
    self-attention needs more than half of the free memory; where memory does not suffice it is halved, with a
    warning. Hundreds of classes need no more memory than a few, but for a CRF and where `scores` are read.

    Raises ValueError for an empty class list, a class named twice (in upper or lower case), a class the text
    encoder does not know, a recipe whose values are out of range, and an image that `ovamnb.images.as_rgb`
    refuses; TypeError for arguments of a wrong kind; ImportError for a CRF that is not installed.
    """
    require_parts(pipe)
    if checks.flag("crf", crf):
        load_crf()
    batch = checks.whole("batch", batch, 1, why="counts classes")
    checks.seed(seed)
    checks.function("keep", keep, "a function of (image, classes)")
    if not isinstance(caption, str) and not callable(caption):
        raise TypeError(
            f"caption is a text or a function of (image, start of a text), not {checks.shown(caption)}."
        )
    recipe = SegmentRecipe.of(pipe) if recipe is None else recipe
    if isinstance(recipe, str):
        recipe = SEGMENT_RECIPES[checks.one_of("recipe", recipe, SEGMENT_RECIPES)]
    recipe = checks.instance("recipe", recipe, SegmentRecipe, "a SegmentRecipe, a name or None")
    recipe = recipe.changed(changes)
    classes, tokens = _checked(pipe, classes)
    image = as_rgb(image)
    ready = prepare(pipe, image, recipe.size)
    h, w = image.height, image.width
    if keep is not None:
        shown = set(checks.entries("What `keep` gives", keep(image, classes), "classes"))
        classes = tuple(name for name in classes if name in shown)
    if not classes:
        nothing = torch.zeros(h, w, dtype=torch.int64)
        return Segmentation(nothing, torch.zeros(0, h, w), (), recipe.background)

    latents = encode_image(pipe, ready, seed if recipe.latents == "sample" else None)
    batch = min(batch, most_at_once(pipe, latents))

    @cache  # a captioner is a network
    def prompt_of(names: tuple[str, ...]) -> str:
        start = recipe.template.format(" and ".join(map(with_article, names) if recipe.article else names))
        return composed(f"{start} {caption if isinstance(caption, str) else caption(image, start)}".strip())

    groups = that_fit(pipe, classes, prompt_of) if recipe.together else [(name,) for name in classes]
    maps: list[Tensor] = []
    while groups:
        try:
            maps += class_maps(pipe, latents, groups[:batch], prompt_of, recipe, seed, tokens)
            groups = groups[batch:]
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's has no name of its own
            if "memory" not in str(error) or min(batch, len(groups)) == 1:
                raise
            batch = min(batch, len(groups)) // 2
            warnings.warn(f"Not enough memory: {batch} classes at once from here on.", stacklevel=2)
    scaled = scaled_at(torch.stack(maps), (h, w) if recipe.minmax_at == "image" else None)
    if crf:
        scores = stretched(scaled, (h, w)).cpu()
        probabilities = with_edges(scores, image, recipe.crf_background, recipe.crf_sharpness)
        return Segmentation(probabilities.argmax(dim=0), probabilities[1:], classes, recipe.crf_background)
    labels = labels_of(scaled, recipe.background, (h, w))
    return Segmentation(labels.cpu(), scaled.cpu(), classes, recipe.background)  # where traces are, too


def most_at_once(pipe, latents: Tensor) -> int:
    """How many prompts to show `latents` (1, channel, h, w) to at once: half of the free memory holds their
    self-attention, (h·w)² float32 each, 340 MB for Stable Diffusion 2.1. A CPU's memory may end without an
    error."""
    h, w = attention_grids(pipe.unet, latents.shape[-2:])[0]
    return max(1, free_bytes(latents.device) // (2 * 4 * (h * w) ** 2))


def scaled_at(maps: Tensor, size: Grid | None) -> Tensor:
    """`maps` (class, h, w), each scaled to 0…1: as they are, or so that they are when stretched to `size`."""
    if size is None:
        return minmax(maps)
    ends = [torch.stack(stretched(one, size).aminmax()) for one in maps]  # one at a time, for memory
    low, high = torch.stack(ends).T[..., None, None]
    return (maps - low) / (high - low).clamp(min=1e-12)


def labels_of(scores: Tensor, background: float, size: Grid | None = None) -> Tensor:
    """`scores` (class, h, w) → (h, w) int64: 0 where none exceeds `background`, else the highest's number.
    With `size` the scores are stretched to it first, a few at a time, since hundreds take much memory."""
    size = size or tuple(scores.shape[-2:])
    best, label = torch.full(size, background).to(scores), torch.zeros(size).to(scores.device, torch.int64)
    for start in range(0, len(scores), AT_ONCE):
        score, k = stretched(scores[start : start + AT_ONCE], size).max(dim=0)
        label = torch.where(score > best, k + start + 1, label)
        best = torch.maximum(score, best)
    return label


def with_edges(scores: Tensor, image, background: float, sharpness: float) -> Tensor:
    """Probabilities (1 + class, h, w), the background's first, after a dense CRF: it starts at the softmax of
    `sharpness` times `scores` (class, h, w), where the background scores `background` everywhere."""
    with_background = torch.cat([torch.full_like(scores[:1], background), scores])
    return dense_crf((sharpness * with_background).softmax(dim=0), image)


def _checked(pipe, classes: Sequence[str | Token]) -> tuple[tuple[str, ...], dict[str, Token]]:
    """The class names, each of which the text encoder knows, and {word: `Token`} for the tokens among
    them."""
    if isinstance(classes, str):
        raise ValueError(f"Classes are a list of words, such as [{classes!r}], not one string.")
    classes = checks.entries("classes", classes, "words and tokens")
    tokens = {entry.word: entry for entry in classes if isinstance(entry, Token)}
    classes = [entry.word if isinstance(entry, Token) else entry for entry in classes]
    names = tuple(composed(name.strip()) if isinstance(name, str) else "" for name in classes)
    if not names or not all(names):
        raise ValueError("There is no class to look for: give at least one word, and no empty ones.")
    alike = [" ".join(name.split()).casefold() for name in names]  # as they are found in a text
    if twice := [name for name, same in zip(names, alike, strict=True) if alike.count(same) > 1]:
        raise ValueError(f"Named twice among the classes: {', '.join(twice)}.")
    encoder = TextEncoder.of(pipe)
    for name in names:
        encoder.read(name)
    dim = encoder.encode(names[0]).states.shape[1] if tokens else 0
    for token in tokens.values():
        if len(token.class_) != dim:
            raise ValueError(f"{token} was made for another model: this one's text states have dim {dim}.")
    return names, tokens


def that_fit(pipe, classes: tuple[str, ...], told: Callable[[tuple[str, ...]], str]) -> list[tuple[str, ...]]:
    """The classes, halved into groups until each group's text fits the text encoder."""
    try:
        TextEncoder.of(pipe).read(told(classes))
    except ValueError:
        if len(classes) == 1:
            raise
        half = len(classes) // 2
        return that_fit(pipe, classes[:half], told) + that_fit(pipe, classes[half:], told)
    return [classes]
