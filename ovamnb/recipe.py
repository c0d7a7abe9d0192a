"""What the papers leave to choose, in segmentation and in token optimisation: their values, and ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

TUNED = "segment.json"  # beside a model: the recipe that was tuned for it


@dataclass(frozen=True)
class Recipe:
    """All that DiffSegmenter leaves to choose; the defaults are the paper's.

    `weights`: of each resolution, by how many times it is smaller than the latents. `blocks`: which of
    the cross-attentions count (see `Trace.maps`); None takes all, the mid block's too. `emphasis`: factor
    of the class token's distance from the empty text. `together`: one pass for all classes in one text,
    where they compete in the softmax, instead of a pass for each (a few texts where one cannot hold them
    all). `background`: the score, 0 to 1, that a class has to exceed; the paper sweeps it on the truth,
    so here it is a guess until it is tuned. `crf_background`, `crf_sharpness`: the same for
    `segment(crf=True)`, which the paper has not, and how sharply scores become chances.
    """

    template: str = "a photograph of {}"
    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    weights: Mapping[int, float] = field(default_factory=lambda: {1: 0.1, 2: 0.1, 4: 0.5, 8: 0.3})
    blocks: str | None = None
    emphasis: float = 1.21
    power: int = 1
    together: bool = False
    background: float = 0.5
    crf_background: float = 0.5
    crf_sharpness: float = 6.0

    @classmethod
    def of(cls, pipe) -> Recipe:
        """What was tuned for this model, if it lies beside it (`segment.json`), else the paper's."""
        path = Path(str(pipe.config.get("_name_or_path") or ""), TUNED)
        if not path.is_file():
            return cls()
        tuned = json.loads(path.read_text())
        tuned["weights"] = {int(times): weight for times, weight in tuned["weights"].items()}
        return cls(**tuned | {"timesteps": tuple(tuned["timesteps"])})

    def save(self, folder: str | Path) -> None:
        """Write it beside a model, for `of`."""
        Path(folder, TUNED).write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class TokenRecipe:
    """How a token is optimised. The defaults are the fast way, `TOKEN_RECIPES["paper"]` is OVAM's.

    `background`: what the class competes with in the softmax: the "start" token alone, as in the paper, or
    the other words of the "text" it began in, "a photograph of a cat", which stay as they are. `loss`: "bce",
    binary cross-entropy of the class map; or "two-channel", cross-entropy of the maps of class and background
    taken as logits, which is what the published code minimises. `normalise`: "maximum" divides by the most a
    map can reach (heads × steps, summed over blocks); "minmax" scales both maps together to 0…1.
    `at`: meet the mask on the "map"'s grid or at the "image"'s size. `steps`: how many of the recorded steps
    count, evenly spaced; None takes all. `optimizer`: "lbfgs" (quasi-Newton, with a line search), "adam" or
    "sgd"; the `learning_rate` is multiplied by `gamma` every `step_size`. `evaluations` of the loss, at most.
    `proximity`: weight of ‖x − x₀‖² / ‖x₀ − x_start‖², x the class vector and x₀ the word it began as: one
    image says little, and what it does not say the word knows. `subtokens`: begin at the "mean" of a word's
    sub-tokens or at its "last".
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
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, not {value!r}.")
        if self.evaluations < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError("evaluations and steps count from 1.")


_CHOICES = {
    "background": ("text", "start"),
    "loss": ("bce", "two-channel"),
    "normalise": ("maximum", "minmax"),
    "at": ("map", "image"),
    "optimizer": ("lbfgs", "adam", "sgd"),
    "subtokens": ("mean", "last"),
}
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
