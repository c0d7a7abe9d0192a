"""How fast a token is learned, and how good it is: part of `make bench`, or

    python -m workshop.bench.token_cost --official path/to/ovam      # a checkout of github.com/vpulab/ovam

Every row changes one thing of the row above. The first runs the authors' own code on the very same queries.
Seconds are those of a whole optimisation, since nobody knows on the way when to stop: the vectors with the
smallest loss are its result. IoU: on the annotated image, and on scenes the token never saw. The goal is the
IoU on the annotated image that the first row ends at; a row may pass it on its way and lose it again. Masks
are exact (rendered scenes), thresholds the best for each row. No peak of memory is printed: on the bundled
model it is a few MB, less than a process is seen to grow by. Seconds depend on the machine; the ratios
hardly do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ovamnb.emoji.streams import of_concept
from ovamnb.images import record_image
from ovamnb.optimize import optimize_token
from ovamnb.pipelines import load_pipeline
from ovamnb.plumbing.english import with_article
from ovamnb.recipe import TOKEN_RECIPES, TokenRecipe
from ovamnb.refine import minmax, resize
from ovamnb.trace import Trace

from .official import checkout, load, ovam_module

CONCEPT = "cat"
STEPS = 10
THRESHOLDS = [0.05 * i for i in range(4, 19)]
STEPWISE = {
    "our code, the paper's recipe": {},
    "… on the map's own grid": {"at": "map"},
    "… 4 of the steps": {"steps": 4},
    "… L-BFGS": {"optimizer": "lbfgs", "learning_rate": 1.0, "evaluations": 100},
}
"""What each row changes, all above it kept."""


Track = list[tuple[float, Tensor, float]]
"""(seconds since the start, states (token, dim), loss) at each evaluation."""


def end(track: Track) -> Tensor:
    """The states with the smallest loss, which is what an optimisation returns."""
    return min(track, key=lambda moment: moment[2])[1]


class Clock:
    """Notes what an optimisation holds at each evaluation; its own time does not count."""

    def __init__(self) -> None:
        self.track: Track = []
        self.start, self.lost = time.perf_counter(), 0.0

    def note(self, states: Tensor, loss: float) -> None:
        now = time.perf_counter()
        self.track.append((now - self.start - self.lost, states.detach().cpu().clone(), loss))
        self.lost += time.perf_counter() - now


def ours(trace: Trace, mask: Tensor, recipe: TokenRecipe) -> Track:
    """Our optimisation, beginning at the word."""
    clock = Clock()
    token = optimize_token(
        trace, mask, init=CONCEPT, recipe=recipe, watch=lambda _, vector, loss: clock.note(vector, loss)
    )
    return [(t, torch.cat([token.background, vector[None]]), loss) for t, vector, loss in clock.track]


def official(trace: Trace, mask: Tensor, folder: Path, epochs: int) -> Track:
    """The authors' optimisation on the queries of our trace, with the settings of their experiments."""
    optimize_embedding = load(folder, "ovam.optimize").optimize_embedding
    module = ovam_module(trace, folder, expand_size=tuple(mask.shape))
    text = trace.text_of(f"a photograph of {with_article(CONCEPT)}")
    begin = text.states[[0, text.find(CONCEPT)[0][-1]]]
    target = torch.stack([1 - mask.float(), mask.float()])[None]
    clock = Clock()
    with tqdm(total=epochs, desc="official") as bar:

        def note(epoch, embedding, heat, loss) -> None:
            clock.note(embedding, loss.item())
            bar.update()

        optimize_embedding(
            module, begin, target, callback=note, initial_lr=100, epochs=epochs, step_size=120, gamma=0.7
        )
    return clock.track


def rows_of(scene: tuple[Trace, Tensor], folder: Path | None, epochs: int) -> dict[str, Callable[[], Track]]:
    """Row → its optimisation, of at most `epochs` evaluations."""
    recipe = TokenRecipe(**vars(TOKEN_RECIPES["paper"]) | {"evaluations": epochs})
    rows: dict[str, Callable[[], Track]] = {}
    if folder:
        rows["the authors' code"] = partial(official, *scene, folder, epochs)
    for name, changes in STEPWISE.items():
        recipe = TokenRecipe(**vars(recipe) | changes)
        rows[name] = partial(ours, *scene, recipe)
    fast = TOKEN_RECIPES["fast"]
    rows["the default"] = partial(ours, *scene, fast)
    free = TokenRecipe(**vars(fast) | {"proximity": 0.0, "evaluations": 100})
    return rows | {"… free, 100 evaluations": partial(ours, *scene, free)}


def best_iou(scenes: list[tuple[Trace, Tensor]], states: Tensor) -> float:
    """Of a map's mask with the truth, at the best threshold, over all scenes together."""
    heats = [(minmax(resize(trace.maps(states).values[-1], truth)), truth) for trace, truth in scenes]

    def at(threshold: float) -> float:
        both = sum(int(((heat > threshold) & truth).sum()) for heat, truth in heats)
        return both / sum(int(((heat > threshold) | truth).sum()) for heat, truth in heats)

    return max(map(at, THRESHOLDS))


def reached(track: Track, scene: tuple[Trace, Tensor], goal: float) -> int | None:
    """The first evaluation whose map has an IoU of `goal` on the annotated image; after the 50th, every tenth
    is looked at."""
    looked_at = [i for i in range(len(track)) if i < 50 or i % 10 == 9]
    return next((i for i in looked_at if best_iou([scene], track[i][1]) >= goal), None)


def look(pipe, stream: str, count: int, steps: int) -> list[tuple[Trace, Tensor]]:
    """Scenes of CONCEPT, noised at `steps` levels as if they had been denoised in so many steps."""
    times = [int(t) for t in torch.linspace(20, 900, steps)]
    found = []
    for picture in of_concept(stream, CONCEPT, count):
        trace = record_image(
            pipe, Image.fromarray(picture.image), picture.caption, timesteps=times, dtype=torch.float32
        )
        found.append((trace, torch.from_numpy(picture.mask(CONCEPT))))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.bench.token_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--official", type=checkout("ovam"), help="a checkout of the authors' code")
    parser.add_argument("--epochs", type=int, default=800, help="of the paper's recipe (default %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="recorded steps (default %(default)s)")
    parser.add_argument("--unseen", type=int, default=12, help="scenes for the last column")
    given = parser.parse_args(arguments)

    pipe = load_pipeline(device="cpu")
    [scene], unseen = look(pipe, "tokens", 1, given.steps), look(pipe, "test", given.unseen, given.steps)
    runs = {name: action() for name, action in rows_of(scene, given.official, given.epochs).items()}

    goal = best_iou([scene], end(next(iter(runs.values()))))
    word = scene[0].text_of(f"a photograph of {with_article(CONCEPT)}").states[:-1]  # its class comes last
    print(f"{given.steps} steps, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        f"goal: IoU {goal:.3f} on the annotated image; the word's: {best_iou([scene], word):.3f}, "
        f"on unseen ones {best_iou(unseen, word):.3f}"
    )
    print(f"{'':<30}{'seconds':>9}{'faster':>9}{'IoU':>8}{'unseen':>8}   reaches the goal after")
    whole = next(iter(runs.values()))[-1][0]
    for name, track in runs.items():
        seconds, at = track[-1][0], reached(track, scene, goal)
        first = "–" if at is None else f"{at + 1} evaluations, {track[at][0]:.2f} s"
        print(
            f"{name:<30}{seconds:9.2f}{f'{whole / seconds:.0f} ×':>9}"
            f"{best_iou([scene], end(track)):8.3f}{best_iou(unseen, end(track)):8.3f}   {first}"
        )


if __name__ == "__main__":
    main()
