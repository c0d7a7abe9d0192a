"""What training pictures are worth: a network trained on many mixtures, always tested on the same pictures.

    Study(pool, test, {"ours": data}, sizes=(25, 100)).run(folder)      # folder/runs/NAME.json for each

Every run's result goes to a file of its own, so that an interrupted study loses at most one run per process.
Under `accelerate launch` with n processes each takes every n-th run; the result does not depend on n.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from accelerate import PartialState
from tqdm.auto import tqdm

from ..data.base import Data, Example
from ..evaluation.store import read_counts, write, write_settings
from . import pictures
from .learn import Training, score, train_samples
from .pictures import Sample, sample
from .sources import REAL, chosen, content_hash

MIXES = {
    "real": "k real pictures",
    "synthetic": "all pictures of a source",
    "both": "half of each batch of k real ones, half of a source's",
    "then": "a source's for the first half of the steps, k real ones for the second",
}
KEYS = ("run", "table", "pictures")
"""What the file of a run must hold."""


@dataclass(frozen=True)
class Run:
    """One training: `source` names the synthetic pictures ("real" for none), `k` counts the real ones."""

    source: str
    mix: str
    k: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.source}-{self.mix}-k{self.k}-seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """The trainings to compare.

    `pool`: real pictures; `sizes`: how many of them to train on. `test`: other real pictures, held in memory.
    `synthetic`: any number of sources, with the labels of the real set (see Matched). `mixes`: of MIXES.
    `seeds`: each decides the choice of real pictures, the initial weights and the order of batches, so that
    runs with one seed differ in their pictures alone. `device`: as for `train`. `quiet`: no progress bars.
    """

    pool: Data
    test: Data
    synthetic: Mapping[str, Data] = field(default_factory=dict)
    sizes: Sequence[int] = (25, 100, 400)
    seeds: Sequence[int] = (0, 1, 2)
    mixes: Sequence[str] = tuple(MIXES)
    recipe: Training = field(default_factory=Training)
    device: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for everything that can be wrong before a picture is read."""
        if unknown := [mix for mix in self.mixes if mix not in MIXES]:
            raise ValueError(f"There is no mix '{unknown[0]}': choose of {', '.join(MIXES)}.")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"Seeds count from 0, not {min(self.seeds)}.")
        if not self.runs:
            raise ValueError("There is nothing to train: give a mix, a seed, and a size for real pictures.")
        if needy := [mix for mix in self.mixes if mix != "real" and not self.synthetic]:
            raise ValueError(f"'{needy[0]}' needs a synthetic source: give one, or the mix 'real' alone.")
        for run in self.runs:
            if run.mix != "synthetic":
                chosen(len(self.pool), run.k, run.seed)
        if self.pool.classes != self.test.classes:
            raise ValueError("The pool and the test pictures have to have the same classes.")

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, in order."""
        found = []
        for seed in self.seeds:
            for source in (REAL, *self.synthetic):
                for mix in self.mixes:
                    if (mix == "real") == (source == REAL):
                        sizes = (0,) if mix == "synthetic" else self.sizes
                        found += [Run(source, mix, k, seed) for k in sizes]
        return list(dict.fromkeys(found))

    def prepare(self, folder: Path) -> None:
        """Read the sources and write down what all results depend on.

        Raises ValueError for a folder that holds a study with other settings, or other pictures under a
        source's name, and as Data for pictures that are missing or damaged.
        """
        about = {name: {"pictures": len(s), "contents": content_hash(s)} for name, s in self.sources.items()}
        write_settings(folder, self.settings())
        for name, contents in about.items():
            write_settings(folder / "sources" / name, contents)

    def run(self, folder: Path) -> None:
        """Train and test whatever is not there yet. Raises as `prepare`, before anything is trained."""
        self.prepare(folder)
        state = PartialState()
        mine = self.runs[state.process_index :: state.num_processes]
        for run in tqdm(mine, desc=folder.name, disable=self.quiet or not state.is_main_process):
            path = path_of(folder, run)
            if not read_counts(path, KEYS):
                write(path, self.result(run))

    def settings(self) -> dict:
        """All that a result depends on, except for the sources and what its name says."""
        return {
            "recipe": asdict(self.recipe) | {"size": list(self.recipe.size)},
            "views": {"zoom": list(pictures.ZOOM), "colour": pictures.COLOUR},
            "classes": list(self.pool.classes),
            "pool": list(self.pool.names),
            "test": list(self.test.names),
            "contents": {
                name: data.content_hash(range(len(data)))
                for name, data in (("pool", self.pool), ("test", self.test))
            },
            "versions": {name: version(name) for name in ("torch", "transformers")}
            | {"python": platform.python_version()},
        }

    def result(self, run: Run) -> dict:
        """What is written of a run: the confusion of all test pictures, how many synthetic pictures there
        were, and seconds of training."""
        real = [self.real(index) for index in chosen(len(self.pool), run.k, run.seed)] if run.k else []
        synthetic = self.sources.get(run.source, [])
        start = time.perf_counter()
        module = train_samples(
            [part for part in (synthetic, real) if part],
            self.pool.classes,
            self.recipe,
            then=run.mix == "then",
            seed=run.seed,
            device=self.device,
            quiet=True,
        )
        seconds = round(time.perf_counter() - start, 1)
        table = score(module, self.examples).tolist()
        return {"run": asdict(run), "pictures": len(synthetic), "seconds": seconds, "table": table}

    @cached_property
    def sources(self) -> dict[str, list[Sample]]:
        """Every synthetic picture, ready to be trained on."""
        return {
            name: [sample(example, self.recipe.size) for example in data]
            for name, data in self.synthetic.items()
        }

    @cached_property
    def examples(self) -> list[Example]:
        return list(self.test)

    @cached_property
    def _read(self) -> dict[int, Sample]:
        return {}

    def real(self, index: int) -> Sample:
        """Picture `index` of the pool, read once."""
        if index not in self._read:
            self._read[index] = sample(self.pool[index], self.recipe.size)
        return self._read[index]


def path_of(folder: Path, run: Run) -> Path:
    """The file of a run's result."""
    return folder / "runs" / f"{run.name}.json"
