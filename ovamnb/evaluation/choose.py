"""The same chance for every method: `python -m ovamnb.evaluation.choose --data emoji-sim`.

Each method starts plain, without sharpening and CRF (DiffSegmenter as published), and takes one decision
after another on the validation pictures: how to sharpen, which blocks, which steps, which half of the
guidance, one text or several, which scale, which CRF. DiffSegmenter decides on resolutions, noise, text,
completion, draws and CRF, in about as many settings. Of each decision's options the best stays if it beats
what was there; every setting is scored at its own best threshold.
`chosen.txt` holds the rows that came out, with the number of settings that each was chosen from:

    python -m ovamnb.evaluation --data emoji-sim --methods daam ovam @runs/choose/emoji-sim/chosen.txt

An interrupted run goes on where it stopped; `accelerate launch` spreads it over processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image

from ..data.base import Data, Example
from ..pipelines import free_bytes
from ..plumbing.command import WRONG, ends
from ..plumbing.files import write_text
from ..trace import Trace
from ..unet import attention_grids, attentions, unet_of
from .arguments import OR_BESIDE, arguments_of, both_splits, folder_for, limits, start, tokens_if_needed
from .methods import METHODS, TOKEN, Segmenter, parse
from .report import highest, show, write_table
from .run import Evaluation, check_rows
from .split import Split

START = ("daam", "attn2mask crf=none", "ovam", "diffsegmenter-paper")
COLUMNS = ("method", "asked by", "decision", "setting", "threshold", "mIoU", "chosen")
Decision = tuple[str, list[str]]
"""What is decided, and the settings that are compared with what was there."""


def decisions(pipe, method: str) -> list[Decision]:
    """The decisions of one method, in order, for this model's grids and blocks."""
    chosen = parse(method)[0]
    if isinstance(chosen, Segmenter):
        return [
            ("resolutions", segmenter_blocks(pipe)),
            ("noise", ["timesteps=(50,)", "timesteps=(200,)", "timesteps=(300,)", "timesteps=(100,200,300)"]),
            ("text", ["together=True", "template={}", "emphasis=1.0", "emphasis=1.6", "emphasis=2.5"]),
            ("completion", ["power=2", "power=3"]),
            ("draws", ["samples=4"]),
            ("crf", ["crf=hard", "crf=soft"]),
        ]
    several = ["first-half", "last-half", "middle", "4"]
    steps = ["quarter", "three-quarters", "last"] if chosen.steps == "middle" else several
    halves = [] if chosen.maps == "prompt" else [other(chosen.queries)]
    return [
        ("sharpening", ["sharpen=weights", "sharpen=completion", "sharpen=completion power=2"]),
        ("blocks", [f"blocks={blocks}" for blocks in block_choices(pipe)]),
        ("steps", [f"steps={which}" for which in steps]),
        ("half", [f"queries={half}" for half in halves]),
        ("text", ["maps=together"] if chosen.maps == "alone" else []),
        ("scale", [f"scale={name}" for name in ("minmax", "maximum") if name != chosen.scale]),
        ("crf", ["crf=hard", "crf=soft"]),
    ]


def other(half: str) -> str:
    """The half of the guidance that is not read so far."""
    return "conditional" if half == "unconditional" else "unconditional"


def block_choices(pipe) -> list[str]:
    """Every subset of the model's grids, the up blocks, and the last of these."""
    sides = [max(grid) for grid in attention_grids(unet_of(pipe))]
    subsets = [
        [side for bit, side in enumerate(sides) if mask >> bit & 1] for mask in range(1, 2 ** len(sides))
    ]
    return ["+".join(map(str, sorted(subset))) for subset in subsets] + ["up_blocks", last_up(pipe)]


def last_up(pipe) -> str:
    """The name of the last up block that has cross-attention, the finest."""
    ups = [name for name in attentions(unet_of(pipe), False)[0] if name.startswith("up_blocks")]
    return max(name.split(".attentions")[0] for name in ups)


def segmenter_blocks(pipe) -> list[str]:
    """As many ways for DiffSegmenter, which weighs resolutions: one alone or several, in all or up blocks."""
    factors = [2**k for k in range(len(attention_grids(unet_of(pipe))))]
    alone = [f"weights={{{times}:1.0}}" for times in factors]
    shares = ("{1:.5,2:.5}", "{1:.3,2:.7}", "{1:.7,2:.2,4:.1}", "{1:.3,2:.5,4:.2}")
    ups = [f"blocks=up_blocks weights={share}" for share in shares[:2]]
    return (
        alone + [f"weights={share}" for share in shares] + ups + [f"blocks={last_up(pipe)} weights={{1:1.0}}"]
    )


@dataclass(frozen=True)
class Remembering(Evaluation):
    """An evaluation that keeps its recordings while a quarter of the free memory holds them, since every
    decision looks at the same pictures."""

    kept: dict = field(default_factory=dict)

    def draw(self, data: Data, index: int, example: Example) -> tuple[Image.Image, Trace]:
        return self.remembered(index, lambda: super(Remembering, self).draw(data, index, example))

    def look_at(self, image: Image.Image, prompt: str) -> Trace:
        return self.remembered(
            (prompt, image.tobytes()), lambda: super(Remembering, self).look_at(image, prompt)
        )

    def remembered(self, key, make):
        if key in self.kept:
            return self.kept[key]
        found = make()
        size = sum(trace.nbytes for trace in map(trace_of, (found, *self.kept.values())))
        if 4 * size < free_bytes(torch.device("cpu")) // PartialState().num_processes + size:
            self.kept[key] = found
        return found


def trace_of(found: Trace | tuple[Image.Image, Trace]) -> Trace:
    """The recording, of a drawn picture as of a given one."""
    return found if isinstance(found, Trace) else found[1]


def with_setting(row: str, setting: str) -> str:
    """A row with one more setting, which replaces an earlier one of the same name."""
    text, token = row.removesuffix(TOKEN), TOKEN if row.endswith(TOKEN) else ""
    name, *have = text.split(" ")
    new = setting.split(" ")
    names = {part.partition("=")[0] for part in new}
    kept = [part for part in have if part.partition("=")[0] not in names]
    return " ".join([name, *kept, *new]) + token


def choose(
    plan: Evaluation, data: Data, folder: Path, rows: Sequence[str]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """The rows that come out for the published `rows`, and what was compared: values of COLUMNS."""
    steps = {row: decisions(plan.pipe, row.removesuffix(TOKEN)) for row in rows}
    current, tried, told = {row: row for row in rows}, dict.fromkeys(rows, 1), []
    for turn in range(max(map(len, steps.values()))):
        options = {
            row: [with_setting(current[row], setting) for setting in found[turn][1]]
            for row, found in steps.items()
            if turn < len(found)
        }
        wanted = [*current.values(), *(name for names in options.values() for name in names)]
        replace(plan, rows=list(dict.fromkeys(wanted))).run(data, folder)
        PartialState().wait_for_everyone()  # each process counted a part, and all decide alike
        split = Split(folder)
        for row, names in options.items():
            sweeps = {name: split.sweep(name) for name in [current[row], *names]}
            best = max(sweeps, key=lambda name: max(sweeps[name]))  # of equals the earlier one
            for name in sweeps if turn == 0 else names:
                k = highest(sweeps[name])
                same = [other for other in sweeps if sweeps[other] == sweeps[name]]  # in the order of trying
                verdict = "yes" if name == best else ""
                if same[0] != name:
                    verdict = "changes nothing" if same[0] == current[row] else "as another one"
                asked = "tokens" if row.endswith(TOKEN) else "words"
                about = "the start" if name == row else steps[row][turn][0]
                values = show(split.thresholds[k]), show(sweeps[name][k]), verdict
                told.append((row.removesuffix(TOKEN), asked, about, name.removesuffix(TOKEN), *values))
                if PartialState().is_main_process:
                    print("  ".join(told[-1]), flush=True)
            tried[row] += len(names)
            current[row] = best
    return [with_setting(current[row], f"tried={tried[row]}") for row in rows], told


@ends("python -m ovamnb.evaluation.choose")
def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("evaluation.choose", __doc__, "emoji-sim", f"runs/choose/DATA, {OR_BESIDE}")
    both = [*START, *(row + TOKEN for row in START)]
    parser.add_argument("--methods", nargs="+", default=both, metavar="METHOD", help="what to tune (all)")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        splits = both_splits(given)
        tokens = tokens_if_needed(given, any(name.endswith(TOKEN) for name in given.methods))
        check_rows([*given.methods, "ovam crf=hard"], splits["validation"], tokens)
    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    plan = Remembering(
        pipe, given.methods, tokens, seed=given.seed, methods=METHODS, limit=limits(given)["validation"]
    )
    data = splits["validation"]
    out = folder_for(given, "choose", {"validation": (plan, data)})
    chosen, told = choose(plan, data, out / "validation", given.methods)
    if state.is_main_process:
        write_text(out / "chosen.txt", "\n".join(chosen) + "\n", make_folder=True)
        split = Split(out / "validation")
        model = f"model: {split.settings['model']}, weights {split.settings['weights']}, seed {given.seed}"
        header = [f"{given.data}: {len(split.pictures)} validation pictures", model, f"truth: {data.truth}"]
        write_table((given.csv or out) / "tried.csv", header, COLUMNS, told)
        print("\n".join(["", *chosen]))


if __name__ == "__main__":
    main()
