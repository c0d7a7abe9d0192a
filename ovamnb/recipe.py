"""What DiffSegmenter leaves to choose: the paper's values, or those that were tuned for a model."""

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
