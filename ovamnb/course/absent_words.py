"""Chapter 10's measurements: what words answer for pictures that show them, and for those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..emoji.recorded import traces
from ..emoji.scenes import Scene
from ..emoji.sprites import CONCEPTS
from ..emoji.streams import stream
from ..plumbing.english import with_article
from ..select import Blocks
from ..text import TextEncoder

BATCH = 6  # scenes that share one noise: other numbers give other noise


@dataclass(frozen=True)
class Answers:
    """Maps of every class word for every scene, as shares of attention.

    `scenes`: the pictures; `present` (scene, word) bool: whether a scene shows the thing; `alone`
    (scene, word, h, w): the word's map in "a photograph of a …"; `together` (scene, word, h, w): its map
    where all class names stand in one text and compete.
    """

    scenes: list[Scene] = field(repr=False)
    present: Tensor = field(repr=False)
    alone: Tensor = field(repr=False)
    together: Tensor = field(repr=False)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (scene, word) of the words that are there, and of those that are not."""
        return values[self.present], values[~self.present]


def ask(
    pipe,
    kind: str,
    count: int,
    best: Blocks | None = None,
    objects: int = 2,
    caption: str | None = None,
) -> Answers:
    """Every class word for `count` scenes of a stream ("validation" or "test") that show `objects` things.

        seen = ask(pipe, "test", 12, settings.best)
        here, absent = seen.split(seen.alone.amax(dim=(-2, -1)))

    `best`: blocks, as for `Trace.maps`. `caption`: what the UNet reads with every picture; by default each
    picture's own caption, which names what it shows, as a user would.
    """
    scenes = stream(kind, count, objects=objects)
    read = scenes if caption is None else [replace(one, caption=caption) for one in scenes]
    encoder = TextEncoder.of(pipe)
    texts = [encoder.encode(f"a photograph of {with_article(name)}") for name in CONCEPTS]
    all_names = encoder.encode(list(CONCEPTS))
    alone, together = [], []
    for _, trace, image in traces(pipe, read, batch=BATCH):

        def share(text, names: Sequence[str], trace=trace, image=image) -> Tensor:
            maps = trace.maps(text.states, image=image, blocks=best).share.values.cpu()
            return torch.stack([maps[text.find(name)[0]].mean(dim=0) for name in names])

        alone.append(torch.cat([share(text, [name]) for text, name in zip(texts, CONCEPTS, strict=True)]))
        together.append(share(all_names, CONCEPTS))
    shown = [{thing.concept for thing in picture.objects} for picture in scenes]
    present = torch.tensor([[name in names for name in CONCEPTS] for names in shown])
    return Answers(scenes, present, torch.stack(alone), torch.stack(together))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "peak": lambda heat: heat.amax(dim=(-2, -1)),
    "mean": lambda heat: heat.mean(dim=(-2, -1)),
    "peak − mean": lambda heat: heat.amax(dim=(-2, -1)) - heat.mean(dim=(-2, -1)),
    "peak / mean": lambda heat: heat.amax(dim=(-2, -1)) / heat.mean(dim=(-2, -1)),
}
"""Statistics of maps (..., h, w), each → (...): one number for a map."""


def auc(present: Tensor, absent: Tensor) -> float:
    """The probability that a random present value exceeds a random absent one, ties counted half:

        AUC = mean over pairs of [p > a] + ½ [p = a]

    `present` (n,), `absent` (m,): the order of their values is all that counts. ½ is chance. It is the area
    under the curve of hits over false alarms (Hanley and McNeil, Radiology 1982).
    """
    difference = present.double()[:, None] - absent.double()
    return float((difference > 0).double().mean() + 0.5 * (difference == 0).double().mean())


def threshold(absent: Tensor, alarms: float) -> float:
    """The smallest of the `absent` values (n,) that at most a share `alarms` of them exceed."""
    ordered = absent.sort(descending=True).values
    shares = (absent[None] > ordered[:, None]).double().mean(dim=1)
    return float(ordered[shares <= alarms].min())


def table(seen: Answers) -> dict[str, float]:
    """The AUC of each statistic, of words alone and of all names together."""
    found = {}
    for way, maps in (("alone", seen.alone), ("together", seen.together)):
        for name, statistic in STATISTICS.items():
            found[f"{name}, {way}"] = auc(*seen.split(statistic(maps)))
    return found


def misled(seen: Answers) -> tuple[int, int, int]:
    """(scene, word that is there, word that is not): where, of all scenes, the peak of an absent word exceeds
    that of a present one by most."""
    peak = STATISTICS["peak"](seen.alone)
    here = peak.masked_fill(~seen.present, float("inf")).min(dim=1)
    absent = peak.masked_fill(seen.present, -float("inf")).max(dim=1)
    scene = int((absent.values - here.values).argmax())
    return scene, int(here.indices[scene]), int(absent.indices[scene])
