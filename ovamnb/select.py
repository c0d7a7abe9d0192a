"""Which blocks, which grid, which steps, which half: the ways to choose a part of a generation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import index

from .plumbing import checks

MOST_STEPS = 100_000
Grid = tuple[int, int]
Blocks = str | int | Sequence[str | int]


@dataclass(frozen=True)
class Block:
    """One cross-attention layer: the grid (h, w) of its queries, its heads, the scale of its scores."""

    grid: Grid
    heads: int
    scale: float

    def __repr__(self) -> str:
        return f"Block({show_grid(self.grid)}, {self.heads} heads)"


def as_resolution(resolution) -> int | Grid:
    """The longer side of a grid, or (h, w), as Python's own numbers; TypeError for what is neither."""
    try:
        return index(resolution)
    except TypeError:
        return checks.size(resolution, "a resolution: the longer side of a grid, such as 32, or (h, w)")


def as_blocks(blocks) -> Blocks | None:
    """A choice of blocks, checked: None, a part of a name, a side, or several of these."""
    if blocks is None or (isinstance(blocks, str) and blocks):
        return blocks
    single = not checks.is_list(blocks)
    choices = [blocks] if single else list(blocks)
    if not all((isinstance(c, str) and c) or _is_resolution(c) for c in choices):
        raise TypeError(
            "blocks is a part of a name ('up'), the longer side of a grid (16), or a list of these, not "
            f"{checks.shown(blocks)}."
        )
    found = [c if isinstance(c, str) else as_resolution(c) for c in choices]
    return found[0] if single else found


def _is_resolution(value) -> bool:
    try:
        as_resolution(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def on_grid(resolution: int | Grid, grid: Grid) -> bool:
    """Whether a resolution means this grid (h, w): it is its longer side, or the grid itself."""
    return max(grid) == resolution if isinstance(resolution, int) else tuple(grid) == tuple(resolution)


def chosen(blocks: Blocks | None, name: str, grid: Grid) -> bool:
    """Whether a choice of blocks includes the block of this name on this grid; None includes all."""
    if blocks is None:
        return True
    choices = [blocks] if isinstance(blocks, str | int) else blocks
    return any(c in name if isinstance(c, str) else on_grid(c, grid) for c in choices)


def select(blocks: Blocks, grids: Mapping[str, Grid]) -> list[str]:
    """The names that a choice includes; ValueError, naming what there is, where a part of it matches none."""
    for choice in [blocks] if isinstance(blocks, str | int) else blocks:
        if not any(chosen(choice, name, grid) for name, grid in grids.items()):
            places = ", ".join(dict.fromkeys(name.split(".attentions")[0] for name in grids))
            sides = ", ".join(str(max(grid)) for grid in dict.fromkeys(grids.values()))
            raise ValueError(
                f"No block matches {choice!r}: say a part of a name ({places}) or the longer side of a grid "
                f"({sides})."
            )
    return [name for name, grid in grids.items() if chosen(blocks, name, grid)]


def names_of(blocks: Blocks | None, grids: Mapping[str, Grid]) -> list[str]:
    """The names of recorded blocks, {name: grid}, that a choice means: None takes all but the mid block's.
    ValueError where there is none."""
    if blocks is None:
        names = [name for name in grids if not name.startswith("mid_block")]
        if not names:
            raise ValueError("No down or up block was recorded: choose others by `blocks=`, such as 'mid'.")
        return names
    names = select(as_blocks(blocks), grids)
    if not names:
        raise ValueError("blocks=[] chooses no block: name at least one, or None for all but the mid's.")
    return names


def half_of(queries: str | None, recorded: Collection[str]) -> str:
    """Which of the recorded halves is meant: None prefers the conditional one, and the one of a negative
    prompt is the unconditional. ValueError for one that was not recorded."""
    half = "unconditional" if isinstance(queries, str) and queries == "negative" else queries
    if queries is None:
        half = next((h for h in ("conditional", "unconditional") if h in recorded), None)
    if not isinstance(half, str) or half not in recorded:
        have = " and ".join(recorded) or "none"
        raise ValueError(
            f"Queries {checks.shown(queries)} were not recorded (recorded: {have}): see "
            "`ov.record(queries=…)`."
        )
    return half


def positions(steps: int | Iterable[int] | None, recorded: tuple[int, ...]) -> slice | list[int]:
    """Where the chosen steps stand among the recorded ones; ValueError for those that do not."""
    wanted = as_steps(steps)
    if wanted is None:
        return slice(None)
    missing = [step for step in wanted if step not in recorded]
    if missing:
        raise ValueError(f"Steps {missing} were not recorded: there are {show_steps(recorded)}.")
    return [recorded.index(step) for step in wanted]


def as_steps(steps: int | Iterable[int] | None) -> tuple[int, ...] | None:
    """Step numbers as a sorted tuple; None stays None. A step is one UNet pass, counted from 0."""
    if steps is None:
        return None
    try:
        given = islice(steps, MOST_STEPS) if checks.is_list(steps) else [steps]
        numbers = {index(step) for step in given}
    except TypeError:
        numbers = set()
    if not numbers or min(numbers) < 0:
        raise ValueError(
            "Steps are numbers of UNet passes, counted from 0, such as 10 or range(10, 20), not "
            f"{checks.shown(steps)}."
        )
    return tuple(sorted(numbers))


def show_steps(steps: Sequence[int]) -> str:
    """Step numbers for a message: "0 to 9" where they form a range."""
    together = len(steps) > 1 and steps[-1] - steps[0] == len(steps) - 1
    return f"{steps[0]} to {steps[-1]}" if together else ", ".join(map(str, steps))


def show_grid(grid: Grid) -> str:
    """ "8×11", height first."""
    return f"{grid[0]}×{grid[1]}"


def evenly(count: int, wanted: int | None) -> list[int]:
    """`wanted` of `count` positions, each in the middle of an equal part: evenly(10, 2) = [2, 7]."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]
