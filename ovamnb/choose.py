"""Which blocks, which grid, which steps: the three ways to choose a part of a generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index

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


def on_grid(resolution: int | Grid, grid: Grid) -> bool:
    """Whether a resolution means this grid (h, w): it is its longer side, or the grid itself."""
    return max(grid) == resolution if isinstance(resolution, int) else tuple(grid) == tuple(resolution)


def chosen(blocks: Blocks | None, name: str, grid: Grid) -> bool:
    """Whether a choice of blocks covers the block of this name on this grid; None covers every one."""
    if blocks is None:
        return True
    choices = [blocks] if isinstance(blocks, str | int) else blocks
    return any(c in name if isinstance(c, str) else on_grid(c, grid) for c in choices)


def select(blocks: Blocks, grids: Mapping[str, Grid]) -> list[str]:
    """The names that a choice covers; ValueError, naming what there is, where a part of it covers none."""
    for choice in [blocks] if isinstance(blocks, str | int) else blocks:
        if not any(chosen(choice, name, grid) for name, grid in grids.items()):
            places = ", ".join(dict.fromkeys(name.split(".attentions")[0] for name in grids))
            sides = ", ".join(str(max(grid)) for grid in dict.fromkeys(grids.values()))
            raise ValueError(
                f"No block matches {choice!r}: say a part of a name ({places}) or the longer side of a grid "
                f"({sides})."
            )
    return [name for name, grid in grids.items() if chosen(blocks, name, grid)]


def as_steps(steps: int | Iterable[int] | None) -> tuple[int, ...] | None:
    """Step numbers as a sorted tuple; None stays None. A step is one UNet pass, counted from 0."""
    if steps is None:
        return None
    try:
        numbers = {index(step) for step in ([steps] if isinstance(steps, int) else steps)}
    except TypeError:
        numbers = set()
    if not numbers or min(numbers) < 0:
        raise ValueError(
            f"Steps are numbers of UNet passes, counted from 0, such as 10 or range(10, 20), not {steps}."
        )
    return tuple(sorted(numbers))


def show_steps(steps: Sequence[int]) -> str:
    """Step numbers for a message: "0 to 9" where they form a range."""
    together = len(steps) > 1 and steps[-1] - steps[0] == len(steps) - 1
    return f"{steps[0]} to {steps[-1]}" if together else ", ".join(map(str, steps))


def show_grid(grid: Grid) -> str:
    """ "8×11", height first."""
    return f"{grid[0]}×{grid[1]}"
