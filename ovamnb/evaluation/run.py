"""An evaluation that can be interrupted, resumed and spread over processes.

    Evaluation(pipe, ["ovam", "daam"]).run(data, folder)    # folder/examples/NAME.json for each picture

Every picture's counts go to a file of its own, written to a temporary name and then renamed: an interrupted
run loses at most one picture, and a resumed one skips what is there, picture by picture and method by method.
Under `accelerate launch` with n processes each takes every n-th picture; since they share nothing, the result
does not depend on n.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..crf import load_crf
from ..data.base import Data, Example, require_names
from ..plumbing.english import listed, mentions
from ..plumbing.files import clear_partials
from ..recipe import SegmentRecipe
from ..segmentation import Captioner, Filter
from ..select import evenly
from ..tokens import Token
from ..trace import Trace
from .look import Look
from .methods import METHODS, TOKEN, Method, cut_of, labels_at, needs_crf, parse
from .metrics import confusion
from .redraw import TIMESTEPS, drawn_again, shown
from .store import (
    SETTINGS,
    TOKENS,
    described,
    differences,
    model_settings,
    parts_hash,
    read_counts,
    tokens_hash,
    write,
    write_settings,
)

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(2, 20))
KNOWN = ("classes", "filter", "nothing")
LEFTOVER = 60.0
"""Seconds after which a half-written file counts as abandoned: writing one takes milliseconds."""


@dataclass(frozen=True)
class Evaluation:
    """Which methods to score, with which model, and how.

    `rows`: names in `methods`, with ":token" appended to query with `tokens` instead of words. `known`:
    "classes" queries in each picture the classes that it shows, as OVAM does on generated images; "filter"
    those that `keep` finds in it (see `ovamnb.evidence`), as DiffSegmenter does on real ones; "nothing" all
    of the data set's. `caption`: a captioner, such as `evidence.BlipCaptioner`, for DiffSegmenter's prompts.
    `limit`: the most pictures to use, evenly spaced. `seed`: of the noise added to pictures that the model
    did not generate. `recording`: options of `ov.record`. `look`: the class of what a method is given, `Look`
    or a subclass. `quiet`: no progress bar.
    """

    pipe: object
    rows: Sequence[str]
    tokens: Mapping[str, Token] = field(default_factory=dict)
    known: str = "classes"
    keep: Filter | None = None
    caption: str | Captioner = ""
    limit: int | None = None
    seed: int = 0
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    recording: Mapping[str, object] = field(default_factory=dict)
    look: type[Look] = Look
    quiet: bool = False

    def run(self, data: Data, folder: Path) -> None:
        """Count all pictures of a split that are not counted yet.

        Raises ValueError, before anything is computed, for an unknown method, a class without a token, and a
        folder that holds an evaluation with other settings; ImportError where a method needs a CRF that is
        not installed.
        """
        check_rows(self.rows, data, self.tokens, self.methods)
        if self.known not in KNOWN or (self.limit is not None and self.limit < 1):
            raise ValueError(f"known is one of {', '.join(KNOWN)}, and limit counts pictures from 1.")
        if self.known == "filter" and self.keep is None:
            raise ValueError(
                "To ask for what a filter finds, give one: keep=ovamnb.evidence.ClipFilter.load()."
            )
        require_names(data.names)
        if differ := self.differences(data, folder):
            raise ValueError(
                f"'{folder}' holds results of other settings ({differ}): give another folder, or delete that "
                "one."
            )
        for file, settings in self.claims(data).items():
            write_settings(folder, settings, file)
        state, chosen = PartialState(), evenly(len(data), self.limit)
        if state.is_main_process:
            clear_partials(folder, older=LEFTOVER)
        mine = chosen[state.process_index :: state.num_processes]
        for index in tqdm(mine, desc=folder.name, disable=self.quiet or not state.is_main_process):
            path = folder / "examples" / f"{data.names[index]}.json"
            done = read_counts(path)
            missing = [row for row in self.rows if not self.counted(row, done)]
            if missing:
                write(path, self.count(data, index, missing, done))

    def counted(self, row: str, done: dict) -> bool:
        """Whether what is written of a picture has this row, and the row means what it meant then."""
        return row in done.get("tables", {}) and done.get("meanings", {}).get(row) == self.meaning(row)

    def meaning(self, row: str) -> str:
        """A method with all its settings; "" for a function, whose meaning nobody can tell."""
        method = parse(row, self.methods)[0]
        return repr(method) if is_dataclass(method) else ""

    def claims(self, data: Data) -> dict[str, dict]:
        """File → the settings in it that results must have: in one those of all methods, in another the
        tokens, since a method that needs them may be added later."""
        wanted = {SETTINGS: self.settings(data, evenly(len(data), self.limit))}
        if any(row.endswith(TOKEN) for row in self.rows):
            wanted[TOKENS] = {"tokens": tokens_hash(self.tokens[name] for name in data.classes)}
        return wanted

    def differences(self, data: Data, folder: Path) -> str:
        """How the settings of the results in a folder differ from these, in words; "" if they do not."""
        wanted = self.claims(data)
        found = [differences(folder, settings, file) for file, settings in wanted.items()]
        if TOKENS in wanted:
            paths = (folder / "examples" / f"{name}.json" for name in data.names)
            counted = (row for path in paths for row in read_counts(path).get("tables", {}))
            # In this order, since another process writes the tokens' file before its first counts.
            if any(row.endswith(TOKEN) for row in counted) and not (folder / TOKENS).exists():
                found.append("tokens: unknown ones there")
        return "; ".join(filter(None, found))

    def settings(self, data: Data, chosen: Sequence[int]) -> dict:
        """All that a result depends on, except for the method and its tokens."""
        return {
            "data": type(data).__name__,
            "truth": data.truth,
            "classes": list(data.classes),
            "known": self.known,
            "pictures": [data.names[index] for index in chosen],
            "contents": data.content_hash(chosen),
            "drawing": [data.steps, data.guidance],
            "like": [data.like, data.even_missing],
            "questions": [list(data.question(name)) for name in data.classes],
            "seed": self.seed,
            "timesteps": list(TIMESTEPS),
            "thresholds": list(THRESHOLDS),
            "recording": {name: str(value) for name, value in self.recording.items()},
            "filter": described(self.keep) if self.known == "filter" else "",
            "caption": self.caption if isinstance(self.caption, str) else described(self.caption),
            "recipe": json.loads(json.dumps(asdict(SegmentRecipe.of(self.pipe)))),
            "parts": parts_hash(self.pipe),
            **model_settings(self.pipe),
        }

    def count(self, data: Data, index: int, rows: Sequence[str], done: dict) -> dict:
        """What is written of one picture. `tables`: method → the confusion among `labels`, those that occur,
        at each of THRESHOLDS; `asked`: the queried labels; `included`: those of them that stand in the
        prompt; `unnamed`: labels that nobody asked for, since the prompt does not name them in any word;
        `bytes a step`: of one step's queries in float16."""
        example = data[index]
        if example.seed is not None:  # generated: it is generated again, to be recorded
            image, trace = self.draw(data, index, example)
            asked, prompt = self.asked(data, example, image), example.prompt
        else:
            image, asked = example.image, self.asked(data, example, example.image)
            named = [] if self.known == "nothing" else [data.classes[k - 1] for k in asked]
            prompt = example.prompt or f"a photograph of {listed(named)}"
            trace = self.look_at(image, prompt)
        names = tuple(data.classes[label - 1] for label in asked)
        looks = {
            with_tokens: self.look(
                self.pipe,
                image,
                trace,
                prompt,
                names,
                self.tokens if with_tokens else {},
                like=data.like,
                question=data.question,
                caption=self.caption,
                classes=data.classes,
                spoken=data.spoken,
                seed=self.seed,
            )
            for with_tokens in (False, True)
        }
        truth = torch.tensor(example.labels, dtype=torch.int64)
        unnamed = example.unnamed() if self.known == "classes" else []
        labels = sorted({0, *asked, *example.shown()})
        tables = dict(done.get("tables", {}))
        for row in rows:
            method, with_tokens = parse(row, self.methods)
            cut = lambda threshold: torch.zeros_like(truth)  # noqa: E731
            if asked:
                cut = cut_of(method)(method(looks[with_tokens]), image)
            tables[row] = counts_at(cut, truth, asked, labels, len(data.classes))
        return {
            "name": example.name,
            "labels": labels,
            "asked": asked,
            "included": [k for k, name in zip(asked, names, strict=True) if mentions(prompt, name)],
            "unnamed": unnamed,
            "bytes a step": step_bytes(trace),
            "meanings": done.get("meanings", {}) | {row: self.meaning(row) for row in rows},
            "tables": tables,
        }

    def asked(self, data: Data, example: Example, image: Image.Image) -> list[int]:
        """The labels of the classes to query in a picture."""
        if self.known == "classes":
            return [*example.named] if data.even_missing and example.named else example.present()
        found = set(self.keep(image, data.classes) if self.known == "filter" else data.classes)
        return [label for label, name in enumerate(data.classes, 1) if name in found]

    def draw(self, data: Data, index: int, example: Example) -> tuple[Image.Image, Trace]:
        """The picture, generated again from its prompt and seed, and its recording."""
        return drawn_again(self.pipe, data, index, example, self.recording)

    def look_at(self, image: Image.Image, prompt: str) -> Trace:
        """The recording of a given picture, noised and denoised with `prompt`."""
        return shown(self.pipe, image, prompt, self.seed, self.recording)


def check_rows(
    rows: Sequence[str], data: Data, tokens: Mapping[str, Token], methods: Mapping[str, Method] = METHODS
) -> None:
    """Raises for whatever is wrong with the methods `rows`, before the first picture."""
    for row in rows:
        _, with_tokens = parse(row, methods)
        without = [name for name in data.classes if name not in tokens] if with_tokens else []
        if without:
            raise ValueError(
                f"'{row}' needs a token for each class, and there is none for {', '.join(without)}: optimise "
                "one with `ov.optimize_token`, and give the file that `ov.save_tokens` writes."
            )
    if any(needs_crf(row, methods) for row in rows):
        load_crf()


def counts_at(
    cut: Callable[[float], Tensor], truth: Tensor, asked: Sequence[int], labels: Sequence[int], classes: int
) -> list[list[list[int]]]:
    """The confusion among `labels` at each of THRESHOLDS. `cut`: threshold → labels (h, w) that count the
    `asked` classes from 1."""
    found = []
    for threshold in THRESHOLDS:
        predicted = labels_at(cut(threshold), asked)
        found.append(confusion(predicted, truth, classes)[labels][:, labels].tolist())
    return found


def step_bytes(trace: Trace) -> int:
    """The bytes of one image's queries at one step, in float16."""
    queries = next(iter(trace.queries.values()))
    return 2 * sum(query[0, 0].numel() for query in queries.values())
