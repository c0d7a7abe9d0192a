"""What each choice is worth, as in OVAM's ablations and beyond:
`python -m ovamnb.evaluation.ablate --data emoji-sim`.

It varies the blocks, by their grids; the steps: each alone, the first, the last, and evenly spaced ones, with
the memory they take; the heads, each alone; conditional or unconditional queries; sharpening; and the
precision that queries are kept in. Each setting is scored with words and with tokens, at its own threshold,
which is chosen on the validation pictures. An interrupted run goes on where it stopped; `accelerate launch`
spreads it over processes.

    methods = flat({"blocks": ablations(pipe, steps=25)["blocks"]})     # "group: setting" → method
    Evaluation(pipe, [*methods], methods=methods, recording=RECORDING, look=Parts).run(data, folder)

A map is a sum over blocks, steps and heads: its terms are computed once, and each setting adds up its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ..maps import attention, keys
from ..plumbing.command import WRONG, ends
from ..plumbing.english import with_article
from ..refine import minmax, resize
from ..select import evenly, on_grid
from ..tokens import Token
from ..unet import attention_grids, attentions, unet_of
from .arguments import OR_BESIDE, arguments_of, both_splits, folder_for, limits, start, tokens_if_needed
from .look import Look
from .methods import OVAM, TOKEN, Method
from .redraw import TIMESTEPS
from .report import Report, show
from .run import Evaluation

COLUMNS = ("group", "setting", "asked by", "threshold", "mIoU", "low", "high", "MB")
CHEAPEST_WITHIN = 0.01  # of the best mIoU
RECORDING = {"queries": "both", "dtype": torch.float32}
Cast = Callable[[Tensor], Tensor]
"""Queries (step, h·w, head·head_dim) → the same, rounded to another precision."""


class Parts(Look):
    """A look that also keeps its maps in parts: a part is one block's attention at each step and head."""

    def parts(
        self, ask: str | Token, half: str = "conditional", cast: Cast | None = None
    ) -> dict[str, Tensor]:
        """Block → attention to the queried word or token, (step, head, h, w); the mean over a word's
        sub-tokens."""
        kept = self.__dict__.setdefault("_kept", {})
        key = (ask.word if isinstance(ask, Token) else ask, half, cast)
        if key not in kept:
            word = ask.word if isinstance(ask, Token) else ask
            text = self.trace.text_of(
                ask if isinstance(ask, Token) else f"a photograph of {with_article(word)}"
            )
            places = [place for found in text.find(word) for place in found]
            kept[key] = {
                name: self.part(name, text.states, places, half, cast) for name in self.trace.select()[0]
            }
        return kept[key]

    def part(self, name: str, states: Tensor, places: Sequence[int], half: str, cast: Cast | None) -> Tensor:
        """One block's attention to the tokens at `places`, (step, head, h, w)."""
        block, query = self.trace.blocks[name], self.trace.queries[half][name][:, self.row]
        query = cast(query) if cast else query
        key = keys(states.to(query.device), self.trace.key_weights[name])
        found = [
            attention(one, key, heads=block.heads, scale=block.scale)[..., places].mean(dim=-1)
            for one in query
        ]
        return torch.stack(found).unflatten(-1, block.grid)


def chosen_parts(
    look: Parts,
    *,
    blocks: Sequence[int] | None = None,
    steps: Iterable[int] | None = None,
    heads: int | None = None,
    half: str = "conditional",
    cast: Cast | None = None,
) -> Tensor:
    """Scores (class, h, w) from the sum of the chosen parts; None takes all. `blocks`: the longer sides of
    their grids. `steps`: indices among the recorded steps. `heads`: the index of one head."""
    heats = []
    for ask in look.asks():
        found = look.parts(ask, half, cast)
        names = [
            name
            for name in found
            if blocks is None or any(on_grid(side, look.trace.blocks[name].grid) for side in blocks)
        ]
        which = slice(None) if steps is None else list(steps)
        head = slice(None) if heads is None else slice(heads, heads + 1)
        maps = [found[name][which, head].sum(dim=(0, 1)) for name in names]
        grid = max((one.shape for one in maps), key=math.prod)
        heats.append(sum(resize(one, grid) for one in maps))
    return minmax(resize(torch.stack(heats), look.image))


def in_dtype(queries: Tensor, dtype: torch.dtype) -> Tensor:
    """Queries rounded to `dtype`."""
    return queries.to(dtype).float()


def in_eight_bits(queries: Tensor) -> Tensor:
    """Queries rounded to int8, each step's (h·w, head·head_dim) scaled by its largest absolute value."""
    scale = queries.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12) / 127
    return (queries / scale).round() * scale


def ablations(pipe, steps: int) -> dict[str, dict[str, Method]]:
    """Group → setting → method, for this model's grids and heads and this number of recorded steps."""
    sides, heads = [max(grid) for grid in attention_grids(unet_of(pipe))], head_count(pipe)
    subsets = [
        [side for bit, side in enumerate(sides) if mask >> bit & 1] for mask in range(1, 2 ** len(sides))
    ]
    cut = chosen_parts
    counts = sorted({1, 2, 3, 4, 6, 8, 12, 16, steps} & set(range(1, steps + 1)))
    return {
        "blocks": {"+".join(map(str, sorted(s))): partial(cut, blocks=tuple(s)) for s in subsets},
        "one step": {str(k): partial(cut, steps=(k,)) for k in range(steps)},
        "first steps": {str(n): partial(cut, steps=range(n)) for n in counts},
        "last steps": {str(n): partial(cut, steps=range(steps - n, steps)) for n in counts},
        "evenly spaced steps": {str(n): partial(cut, steps=evenly(steps, n)) for n in counts},
        "one head": {str(k): partial(cut, heads=k) for k in range(heads)},
        "queries of": {half: partial(cut, half=half) for half in ("conditional", "unconditional")},
        "precision": {
            "float32": cut,
            "float16": partial(cut, cast=cast_to(torch.float16)),
            "bfloat16": partial(cut, cast=cast_to(torch.bfloat16)),
            "int8": partial(cut, cast=in_eight_bits),
        },
        "sharpening": {
            f"{sharpen}{', divided by the maximum' * (scale == 'maximum')}{ends}": replace(
                OVAM, sharpen=sharpen, scale=scale, crf=crf
            )
            for sharpen in ("none", "weights", "completion")
            for scale in ("minmax", "maximum")
            for crf, ends in (("none", ""), ("soft", " + soft crf"), ("hard", " + crf"))
        },
    }


@cache
def cast_to(dtype: torch.dtype) -> Cast:
    """Always the same function object for a dtype, since `Parts` caches by it."""
    return partial(in_dtype, dtype=dtype)


def flat(groups: Mapping[str, Mapping[str, Method]]) -> dict[str, Method]:
    """ "group: setting" → method."""
    return {f"{group}: {name}": method for group, found in groups.items() for name, method in found.items()}


def head_count(pipe) -> int:
    """The smallest number of heads in a cross-attention."""
    return min(attn.heads for attn in attentions(unet_of(pipe), False)[0].values())


@ends("python -m ovamnb.evaluation.ablate")
def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("evaluation.ablate", __doc__, "emoji-sim", f"runs/ablate/DATA, {OR_BESIDE}")
    parser.add_argument("--groups", nargs="+", help="what is varied, such as blocks (default: all)")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        splits = both_splits(given)
        tokens = tokens_if_needed(given, given.model == "bundled")

    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    generated = splits["test"].read(0).seed is not None
    steps = splits["test"].steps if generated else len(TIMESTEPS)
    groups = ablations(pipe, steps)
    recording = RECORDING
    if not generated:  # a given picture is recorded without guidance
        del groups["queries of"]
        recording = {"dtype": RECORDING["dtype"]}
    if unknown := set(given.groups or ()) - set(groups):
        parser.error(f"There is no group {', '.join(unknown)}: choose of {', '.join(groups)}.")
    methods = flat({name: group for name, group in groups.items() if name in (given.groups or groups)})
    rows = [*methods, *(row + TOKEN for row in methods if tokens)]
    plan = Evaluation(
        pipe,
        rows,
        tokens,
        seed=given.seed,
        methods=methods,
        recording=recording,
        look=Parts,
    )
    plans = {split: (replace(plan, limit=limit), splits[split]) for split, limit in limits(given).items()}
    out = folder_for(given, "ablate", plans)
    for split, (plan, data) in plans.items():
        plan.run(data, out / split)
    state.wait_for_everyone()
    if state.is_main_process:
        report = Ablations(out, steps)
        report.save_table((given.csv or out) / "ablations.csv", COLUMNS, report.setting_rows())
        print(report.text())
        print(report.advice())


class Ablations(Report):
    """A report on settings, in groups, as methods."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.steps = steps

    def setting_rows(self) -> Iterator[list[str]]:
        """For each setting the values of COLUMNS; MB: the memory that one picture's queries take."""
        scores = {(score["method"], score["asked by"]): score for score in self.scores}
        for (row, asked), score in scores.items():
            group, setting = row.split(": ", 1)
            values = [show(score[name]) for name in ("threshold", "mIoU", "low", "high")]
            yield [group, setting, asked, *values, show(self.megabytes(group, setting))]

    def megabytes(self, group: str, setting: str) -> float:
        """The memory of one picture's conditional queries in this setting; NaN where it does not vary."""
        one_step = self.test.pictures[0]["bytes a step"] / 1e6
        if group == "precision":
            return one_step * self.steps * {"float32": 2.0, "int8": 0.5}.get(setting, 1.0)
        return one_step * int(setting) if group.endswith("steps") else float("nan")

    def advice(self) -> str:
        """In words, the fewest evenly spaced steps that score within CHEAPEST_WITHIN of the best."""
        found = []
        for asked in ("words", "tokens"):
            scores = {
                int(score["method"].split(": ")[1]): score["mIoU"]
                for score in self.scores
                if score["method"].startswith("evenly spaced steps: ") and score["asked by"] == asked
            }
            if scores:
                least = min(n for n, miou in scores.items() if miou >= max(scores.values()) - CHEAPEST_WITHIN)
                found.append(f"{least} evenly spaced steps for {asked} ({scores[least]:.3f})")
        return f"\nCheapest within {CHEAPEST_WITHIN:.2f} of the best: {'; '.join(found)}" if found else ""


if __name__ == "__main__":
    main()
