"""How far a word reaches: scenes of two objects, by class names, by held-out words, by hypernyms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..emoji import words
from ..emoji.recorded import traces
from ..emoji.scenes import Scene
from ..emoji.streams import stream
from ..maps import AttentionMaps, combine
from ..plot.figures import new_figure
from ..refine import binarize, resize
from ..select import show_grid
from ..trace import Trace

WAYS = ("class names", "class names, alone", "held-out words", "hypernyms")
HELD_OUT = {concept: word for word, concept in words.HELD_OUT.items()}  # cat → kitten
HYPERNYM = {
    concept: word for word, concepts in words.HYPERNYMS.items() for concept in concepts
}  # cat → animal
COLOURS = dict(zip(WAYS, ("#0072B2", "#56B4E9", "#E69F00", "#009E73"), strict=True))  # Okabe-Ito
SUM = "sum of all"  # the blocks that `Trace.maps` takes unless told otherwise


@dataclass
class Reach:
    """What `measure` counts. `hits[way, concept]`: for each scene, whether the word's map is denser on its
    own object than on the other; `areas[way, blocks, concept]`: pixels of the overlap and of the union, over
    all scenes; `grids[blocks]` (h, w); `nearness[way, concept]`: cosine of the states of word and class name.
    """

    hits: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    areas: dict[tuple[str, str, str], Tensor] = field(
        default_factory=lambda: defaultdict(lambda: torch.zeros(2))
    )
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)
    nearness: dict[tuple[str, str], float] = field(default_factory=dict)

    def concepts(self, way: str) -> list[str]:
        """The classes that this way counts: those that have such a word."""
        asked = {concept for name, concept in self.hits if name == way}
        return sorted(asked & HELD_OUT.keys() if way == "held-out words" else asked)

    @property
    def scenes(self) -> int:
        """How many scenes of two objects were counted."""
        return sum(len(hits) for (way, _), hits in self.hits.items() if way == WAYS[0]) // 2

    def hit_rate(self, way: str) -> float:
        """The part of all words that are denser on their own object; chance is one half."""
        scored = [hit for concept in self.concepts(way) for hit in self.hits[way, concept]]
        return sum(scored) / len(scored)

    def iou(self, way: str, concept: str, blocks: str = SUM) -> float:
        """Overlap over union of the words' masks with a class, all its scenes together."""
        overlap, union = self.areas[way, blocks, concept]
        return float(overlap / union)

    def miou(self, way: str, blocks: str = SUM, of: list[str] | None = None) -> float:
        """The mean over classes; `of`: which (default: those that this way counts)."""
        of = self.concepts(way) if of is None else of
        return sum(self.iou(way, concept, blocks) for concept in of) / len(of)

    def kept(self, way: str, blocks: str) -> float:
        """Which part of the class names' mIoU this way keeps, over the classes that it counts."""
        of = self.concepts(way)
        return self.miou(way, blocks, of) / self.miou("class names", blocks, of)


def measure(pipe, pool: int = 240) -> Reach:
    """Ask rendered scenes of two objects of different kinds for both, in four ways.

        reach = measure(pipe)
        reach.hit_rate("held-out words"), reach.miou("hypernyms")

    Of `pool` validation scenes those are taken whose two objects have hypernyms, and two different ones: an
    animal and a vehicle, say. Each is noised at several timesteps and seen by the UNet. A map is cut halfway
    between its lowest and its highest value. Half a minute for a pool of 240.

    Raises ValueError for a pool without such a scene.
    """
    found = Reach()
    pictures = [picture for picture in stream("validation", pool, objects=2) if _two_kinds(picture)]
    if not pictures:
        raise ValueError(f"None of {pool} scenes shows two kinds of objects: take a larger pool, such as 40.")
    for picture, trace, image in traces(pipe, pictures):
        if not found.grids:
            found.grids = _stages(trace)
        names = {thing.concept: thing.concept for thing in picture.objects}
        held_out = {concept: HELD_OUT.get(concept, concept) for concept in names}
        kinds = {concept: HYPERNYM[concept] for concept in names}
        for concept in names:  # each in a text of its own
            maps = trace.maps(words.with_article(concept), image=image)
            _score(found, "class names, alone", SUM, picture, {concept: maps[concept]})
        for way, wanted in (("class names", names), ("held-out words", held_out), ("hypernyms", kinds)):
            text = " and ".join(map(words.with_article, wanted.values()))
            for blocks, maps in _by_stage(trace, text, image, found.grids).items():
                heats = {concept: maps[word] for concept, word in wanted.items()}
                _score(found, way, blocks, picture, heats)
            for concept, word in wanted.items():
                if (way, concept) not in found.nearness:
                    found.nearness[way, concept] = _nearness(trace, word, concept)
    return found


def draw(found: Reach) -> Figure:
    """Both scores for each way of asking, and where a broader word loses."""
    figure = new_figure(9, 3.3)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    heights = range(len(WAYS))[::-1]
    for y, way in zip(heights, WAYS, strict=True):
        left.plot(found.hit_rate(way), y, "o", color=COLOURS[way], markersize=9)
        left.plot(found.miou(way), y, "s", color=COLOURS[way], markersize=9, markerfacecolor="white", mew=2)
        left.annotate(f"{found.hit_rate(way):.2f}", (found.hit_rate(way), y), (0, 8), **BESIDE)
        left.annotate(f"{found.miou(way):.2f}", (found.miou(way), y), (0, 8), **BESIDE)
    left.axvline(0.5, color="0.6", linestyle="--", linewidth=1)
    left.text(0.52, -0.7, "chance for ●", ha="left", va="center", fontsize=8, color="0.4")
    left.set(yticks=list(heights), yticklabels=WAYS, xlim=(0.3, 1.08), ylim=(-1, len(WAYS) - 0.3))
    left.set_xlabel("● own object found   □ mIoU of the mask")

    shown = ("class names", "held-out words", "hypernyms")
    of = [concept for concept in found.concepts("held-out words") if concept in HYPERNYM]
    for offset, way in zip((-0.27, 0, 0.27), shown, strict=True):
        values = [found.miou(way, blocks, of) for blocks in found.grids]
        places = [x + offset for x in range(len(values))]
        bars = right.bar(places, values, width=0.25, color=COLOURS[way], label=way)
        right.bar_label(bars, fmt="%.2f", fontsize=7)
    labels = [f"{blocks}\n{show_grid(grid)}" for blocks, grid in found.grids.items()]
    right.set_xticks(range(len(labels)), labels, fontsize=8)
    right.set_ylabel(f"mIoU over {len(of)} classes")
    right.margins(y=0.12)
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8)
    return figure


def draw_nearness(found: Reach) -> Figure:
    """For each word: how near its state is to the class name's, and what asking by it costs."""
    figure = new_figure(6.4, 3.4)
    ax = figure.subplots()
    for way in ("held-out words", "hypernyms"):
        of = found.concepts(way)
        near = [found.nearness[way, concept] for concept in of]
        lost = [found.iou(way, concept) - found.iou("class names", concept) for concept in of]
        ax.scatter(near, lost, s=36, color=COLOURS[way], label=way, edgecolor="white")
        word_of: Mapping[str, str] = HELD_OUT if way == "held-out words" else HYPERNYM
        for concept, x, y in zip(of, near, lost, strict=True):
            if concept in NAMED[way]:
                ax.annotate(f"{word_of[concept]} for {concept}", (x, y), (5, -9), **BESIDE | {"ha": "left"})
    ax.axhline(0, color="0.6", linestyle="--", linewidth=1)
    ax.margins(0.08)
    ax.set_xlabel("nearness of the word's state to the class name's (cosine)")
    ax.set_ylabel("IoU, word − class name")
    ax.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


BESIDE = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
NAMED = {"held-out words": ("cat", "boat", "cow"), "hypernyms": ("cat", "bicycle", "boat", "sofa")}


def _two_kinds(picture: Scene) -> bool:
    return len({HYPERNYM.get(thing.concept) for thing in picture.objects} - {None}) == 2


def _stages(trace: Trace) -> dict[str, tuple[int, int]]:
    """The way up, stage by stage, with its grid; then the sum of all blocks, on the finest."""
    stages = {
        ".".join(name.split(".")[:2]): block.grid
        for name, block in trace.blocks.items()
        if name.startswith("up")
    }
    return stages | {SUM: max(stages.values())}


def _by_stage(trace: Trace, text: str, image: int, stages: Iterable[str]) -> dict[str, AttentionMaps]:
    """What `trace.maps` gives for each stage alone and for all, with each block's map made once."""
    names, *_ = trace.select(image=image)
    values, read, _ = trace.block_maps(text, image=image)
    parts = {
        stage: [v for n, v in zip(names, values, strict=True) if n.startswith(stage)] for stage in stages
    }
    return {stage: AttentionMaps(combine(part or values), read, 1) for stage, part in parts.items()}


def _score(found: Reach, way: str, blocks: str, picture: Scene, heats: Mapping[str, Tensor]) -> None:
    for concept, heat in heats.items():
        (rival,) = {thing.concept for thing in picture.objects} - {concept}
        own, other = (torch.from_numpy(picture.mask(name)) for name in (concept, rival))
        heat = resize(heat.cpu(), own)
        mask = binarize(heat, 0.5)
        found.areas[way, blocks, concept] += torch.stack([(mask & own).sum(), (mask | own).sum()])
        if blocks == SUM:
            found.hits[way, concept].append(bool(heat[own].mean() > heat[other].mean()))


def _nearness(trace: Trace, word: str, other: str) -> float:
    states = [trace.text_encoder.encode(name).states[1:-1].float().mean(dim=0) for name in (word, other)]
    return F.cosine_similarity(*states, dim=0).item()
