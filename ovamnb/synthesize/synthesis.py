"""Generating, labelling and writing: a run that can be killed, resumed and spread over processes.

    Synthesis(pipe, classes, score, tokens=tokens).run(plans, folder)
    finish(folder, plans)                           # `lists`: once, when all processes are done

A picture, its label map and its record each go to a temporary name and are then renamed, the record last: a
killed run leaves no half pair, and a resumed one skips what has a record. Pictures are generated in batches
that depend on the plans alone; under `accelerate launch` with n processes each takes every n-th batch, so
that the result does not depend on n. No more than one batch's queries are ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..crf import load_crf
from ..data.base import Data
from ..data.on_disk import IGNORED
from ..evaluation.look import Look
from ..evaluation.methods import TOKEN, cut_of, needs_crf, parse
from ..evaluation.store import model_settings, parts_hash, tokens_hash, write
from ..pipelines import factor
from ..plumbing.english import with_article
from ..plumbing.files import clear_partials
from ..recorder import record
from ..text import TextEncoder
from ..tokens import Token
from ..unet import attention_grids, native_size
from .folder import MASKS, read_record, record_path, write_image, write_labels
from .guards import claim, explained, require_disk
from .label_maps import METHODS, areas, check_band, label_map, steps_for
from .prompts import Plan, check_classes
from .tune import RECORDED, UNTUNED, Band

Score = Callable[[Image.Image, Sequence[str]], Sequence[float]]
"""(picture, classes) → how well it fits each: see `agreement`."""
ROW = f"ovam+completion+crf-mean{TOKEN}"


@dataclass(frozen=True)
class Synthesis:
    """How pictures are generated and labelled.

    `row`: which of `label_maps.METHODS` makes the masks, with ":token" appended to query with `tokens`
    instead of words; `also`: further ones, whose label maps go to SegmentationClass-METHOD. `bands`: method →
    (low, high), between which a label is uncertain. `size`: (h, w) in pixels, None for the model's own.
    `recorded`: how many of the denoising steps are recorded, evenly spaced, beside the middle one if
    attn2mask is among the methods. `batch`: pictures generated at once. `quiet`: no progress bar.
    """

    pipe: object
    classes: Sequence[str]
    score: Score
    tokens: Mapping[str, Token] = field(default_factory=dict)
    row: str = ROW
    also: Sequence[str] = ()
    bands: Mapping[str, Band] = field(default_factory=dict)
    steps: int = Data.steps
    guidance: float = Data.guidance
    size: tuple[int, int] | None = None
    recorded: int = RECORDED
    batch: int = 4
    quiet: bool = False

    def run(self, plans: Sequence[Plan], folder: Path) -> None:
        """Generate, label and write all pictures that are not there yet.

        Raises, before anything is generated, ValueError for a class without a token, words or texts that the
        model cannot read, and a folder that holds something else; ImportError for a method whose CRF is not
        installed; OSError where the disk is too small.
        """
        self.check(plans)
        state = PartialState()
        with state.main_process_first():  # so that no process finds half-written settings
            claim(folder, self.settings(), plans)
            if state.is_main_process:
                clear_partials(folder)
        missing = [plan for plan in plans if read_record(folder, plan.name) is None]
        require_disk(folder, len(missing), self.pixels(), maps=len({self.row, *self.also}))
        batches = [plans[i : i + self.batch] for i in range(0, len(plans), self.batch)]
        waiting = {plan.name for plan in missing}
        here = len(plans) - len(missing)
        with tqdm(
            total=len(plans),
            initial=here,
            desc=folder.name,
            unit=" images",
            # A slow model makes less than one image a second, which tqdm would turn into seconds per image.
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_noinv_fmt}]",
            disable=self.quiet or not state.is_main_process,
        ) as bar:
            for part in batches[state.process_index :: state.num_processes]:
                if waiting.isdisjoint(plan.name for plan in part):
                    continue
                with explained(self.batch, folder):
                    self.make(part, folder)
                # Other processes' pictures count too, so that the time left is the whole run's.
                bar.n = min(len(plans), sum(1 for _ in (folder / "records").glob("*.json")))
                bar.refresh()

    def make(self, plans: Sequence[Plan], folder: Path) -> None:
        """Generate a batch at once; label and write each of its pictures that is not there."""
        h, w = self.pixels()
        grid = attention_grids(self.pipe.unet, (h // factor(self.pipe), w // factor(self.pipe)))[0]
        steps = steps_for(self.pipe, (self.row, *self.also), self.steps, self.recorded)
        with record(self.pipe, self_attention=(grid,), steps=steps, device=None) as trace:
            images = self.pipe(
                [plan.prompt for plan in plans],
                height=h,
                width=w,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                generator=[torch.Generator().manual_seed(plan.seed) for plan in plans],
            ).images
        for i, (plan, image) in enumerate(zip(plans, images, strict=True)):
            if read_record(folder, plan.name) is None:
                self.label(plan, image, trace, i, folder)

    def label(self, plan: Plan, image: Image.Image, trace, i: int, folder: Path) -> None:
        """Write a picture, its label maps, and what is known about it."""
        own = [self.classes.index(name) + 1 for name in plan.classes]
        maps = {}
        for row in (self.row, *self.also):
            method, with_tokens = parse(row, METHODS)
            tokens = self.tokens if with_tokens else {}
            scores = method(Look(self.pipe, image, trace, plan.prompt, plan.classes, tokens, i))
            cut = cut_of(method)(scores, image)
            maps[row] = label_map(scores, own, *self.bands.get(row, UNTUNED), cut)
        write_image(folder, plan.name, image)
        for row, labels in maps.items():
            write_labels(folder, plan.name, labels.numpy(), MASKS if row == self.row else masks_of(row))
        write(folder / record_path(plan.name), self.known(plan, image, maps[self.row], own))

    def known(self, plan: Plan, image: Image.Image, labels: Tensor, own: Sequence[int]) -> dict:
        """The record of a picture; `areas` and `scores` belong to its `classes`, in order."""
        settings = model_settings(self.pipe)
        return {
            "name": plan.name,
            "prompt": plan.prompt,
            "seed": plan.seed,
            "classes": list(plan.classes),
            "areas": areas(labels, own),
            "scores": list(self.score(image, plan.classes)),
            "ignored": areas(labels, [IGNORED])[0],
            "model": settings["model"],
            "weights": settings["weights"],
            "versions": settings["versions"],
        }

    def check(self, plans: Sequence[Plan]) -> None:
        """Raises for whatever is wrong, before the first picture."""
        rows = (self.row, *self.also)
        check_rows(rows, check_classes(self.classes), self.tokens)
        for row in rows:
            check_band(*self.bands.get(row, UNTUNED))
        side = max(8, factor(self.pipe))  # diffusers refuses anything else, whatever the model
        if any(pixels < side or pixels % side for pixels in self.pixels()):
            h, w = self.pixels()
            raise ValueError(f"Both sides of a picture are multiples of {side} pixels, not {h}×{w}.")
        asked = [] if all(row.endswith(TOKEN) for row in rows) else self.classes
        texts = [plan.prompt for plan in plans] + [f"a photograph of {with_article(name)}" for name in asked]
        encoder = TextEncoder.of(self.pipe)
        for text in dict.fromkeys(texts):
            encoder.encode(text)

    def settings(self) -> dict:
        """All that a picture, its labels and its scores depend on, except for its plan."""
        with_tokens = any(row.endswith(TOKEN) for row in (self.row, *self.also))
        return {
            "classes": list(self.classes),
            "row": self.row,
            "also": list(self.also),
            "bands": {row: list(self.bands.get(row, UNTUNED)) for row in (self.row, *self.also)},
            "steps": self.steps,
            "guidance": self.guidance,
            "size": list(self.pixels()),
            "recorded": self.recorded,
            "tokens": tokens_hash([self.tokens[name] for name in self.classes]) if with_tokens else "",
            "scores": getattr(self.score, "name", ""),
            "parts": parts_hash(self.pipe),
            **model_settings(self.pipe),
        }

    def pixels(self) -> tuple[int, int]:
        """(h, w) of the pictures."""
        if self.size is not None:
            return self.size
        h, w = native_size(self.pipe.unet)
        return h * factor(self.pipe), w * factor(self.pipe)


def check_rows(rows: Sequence[str], classes: Sequence[str], tokens: Mapping[str, Token]) -> None:
    """ValueError for an unknown method or a class without a token; ImportError for a missing CRF."""
    for row in rows:
        _, with_tokens = parse(row, METHODS)
        without = [name for name in classes if name not in tokens] if with_tokens else []
        if without:
            raise ValueError(
                f"There is no token for {', '.join(without)}: optimise one with `ov.optimize_token`, "
                f"leave the class out, or ask with words, by the row '{row.removesuffix(TOKEN)}'."
            )
        if needs_crf(row, METHODS):
            load_crf()


def masks_of(row: str) -> str:
    """The folder of a further method's label maps; some systems allow no colon in a name."""
    return f"{MASKS}-{row.replace(TOKEN, '-token')}"
