"""How well a picture fits the name of a class, scored by CLIP.

score = Agreement.load("bundled")           # or a CLIP of the hub
score(image, ["cat", "car"])                # [0.93, 0.02]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..evidence import CLIP, ClipFilter
from ..plumbing.english import with_article


class Agreement:
    """CLIP's probability that a picture shows "a cat" and not "not a cat", as in the OVAM paper's filter.

    A CLIP that was not trained on "not", such as the bundled one, gives the picture's cosine with "a
    photograph of a cat" instead, which is comparable between pictures of one class.
    """

    def __init__(self, clip: ClipFilter, *, knows_not: bool, name: str = "") -> None:
        self.clip, self.knows_not, self.name = clip, knows_not, name

    @classmethod
    def load(cls, name: str | None = None, device: str | torch.device | None = None) -> Agreement:
        """The "bundled" CLIP, one of the hub or a folder, or None for the usual one (see
        `ClipFilter.load`)."""
        name = name or CLIP
        clip = ClipFilter.load(name, device=device)
        return cls(clip, knows_not=name != "bundled", name=name)

    @torch.no_grad()
    def __call__(self, image, classes: Sequence[str]) -> list[float]:
        """A score for each class; higher is better."""
        names = [with_article(name) for name in classes]
        if not self.knows_not:
            picture, texts = self.clip.embed(image, [f"a photograph of {name}" for name in names])
            return [round(value, 6) for value in (texts @ picture[0]).tolist()]
        pairs = [text for name in names for text in (name, f"not {name}")]
        picture, texts = self.clip.embed(image, pairs)
        logits = self.clip.model.logit_scale.exp() * (texts @ picture[0])
        return [round(value, 6) for value in logits.unflatten(0, (-1, 2)).softmax(dim=-1)[:, 0].tolist()]
