"""What each choice is worth, as in OVAM's ablations and beyond: `python -m ovamnb.ablate --data emoji-sim`.

Blocks by the grids they lie on; steps, each alone, the first and the last ones, and evenly spaced ones
against the memory they take; single heads; conditional or unconditional queries; sharpening on and off; the
precision queries are kept in. For words and for tokens, each setting with a threshold of its own from the
validation pictures. An interrupted run goes on where it stopped; `accelerate launch` spreads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .command import WRONG, ends
from .evaluation.ablations import RECORDING, Parts, ablations, flat
from .evaluation.command import arguments_of, both_splits, folder_for, limits, start, tokens_if_needed
from .evaluation.report import Report, show
from .evaluation.rows import TOKEN
from .evaluation.run import TIMESTEPS, Evaluation

COLUMNS = ("group", "setting", "asked by", "threshold", "mIoU", "low", "high", "MB")
CHEAPEST_WITHIN = 0.01  # of the best mIoU


@ends("python -m ovamnb.ablate")
def main(arguments: list[str] | None = None) -> None:
    parser = arguments_of("ablate", __doc__, "emoji-sim")
    parser.add_argument("--groups", nargs="+", help="only some, such as blocks (default: all)")
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        splits = both_splits(given)
        tokens = tokens_if_needed(given, given.model == "bundled")

    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    drawn = splits["test"].read(0).seed is not None
    steps = splits["test"].steps if drawn else len(TIMESTEPS)
    groups = ablations(pipe, steps)
    recording = RECORDING
    if not drawn:  # a picture that is looked at has one half
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
    """A report whose rows are settings, in groups."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.steps = steps

    def setting_rows(self) -> Iterator[list[str]]:
        """The values of COLUMNS; MB: what the recorded queries of one picture take, where that varies."""
        scores = {(score["method"], score["asked by"]): score for score in self.scores}
        for (row, asked), score in scores.items():
            group, setting = row.split(": ", 1)
            values = [show(score[name]) for name in ("threshold", "mIoU", "low", "high")]
            yield [group, setting, asked, *values, show(self.megabytes(group, setting))]

    def megabytes(self, group: str, setting: str) -> float:
        """Of one picture's conditional queries, as this setting keeps them."""
        one_step = self.test.pictures[0]["bytes a step"] / 1e6
        if group == "precision":
            return one_step * self.steps * {"float32": 2.0, "int8": 0.5}.get(setting, 1.0)
        return one_step * int(setting) if group.endswith("steps") else float("nan")

    def advice(self) -> str:
        """The fewest evenly spaced steps that score within CHEAPEST_WITHIN of the best."""
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
