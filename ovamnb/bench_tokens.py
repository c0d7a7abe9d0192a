"""How fast a token is learned, and how good it is: part of `make bench`, or

    python -m ovamnb.bench_tokens --official path/to/ovam      # a checkout of github.com/vpulab/ovam

Every row takes one thing away from the published recipe and keeps the rest. The first runs the authors' own
code on the very same queries. The goal that all race for is the IoU on the annotated image that the paper's
recipe ends at; the last column is the IoU on scenes the token never saw. Masks are exact (rendered scenes),
thresholds the best for each row. Seconds depend on the machine; the ratios hardly do.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from .bench_memory import peak_memory
from .emoji.data import of_concept
from .goal import Goal
from .images import record_image
from .optimize import optimize_token
from .pipelines import load_pipeline
from .recipe import TOKEN_RECIPES, TokenRecipe
from .refine import minmax, resize
from .text import with_article
from .trace import Trace

CONCEPT = "cat"
STEPS = 25
THRESHOLDS = [0.05 * i for i in range(4, 19)]
STEPWISE = {
    "our code, the paper's recipe": {},
    "… on the map's own grid": {"at": "map"},
    "… 4 of the steps": {"steps": 4},
    "… L-BFGS": {"optimizer": "lbfgs", "learning_rate": 1.0, "evaluations": 100},
}
"""What each row changes, all above it kept."""


@dataclass
class Run:
    """One optimisation: (seconds since its start, maps' vectors (2 or more, dim)) at each evaluation."""

    track: list[tuple[float, Tensor]]
    peak: int


class Clock:
    """Notes what an optimisation holds at each evaluation; its own time does not count."""

    def __init__(self) -> None:
        self.track: list[tuple[float, Tensor]] = []
        self.start, self.lost = time.perf_counter(), 0.0

    def note(self, states: Tensor) -> None:
        now = time.perf_counter()
        self.track.append((now - self.start - self.lost, states.detach().cpu().clone()))
        self.lost += time.perf_counter() - now


def ours(trace: Trace, mask: Tensor, recipe: TokenRecipe) -> list[tuple[float, Tensor]]:
    """Our optimisation, beginning at the word."""
    text = trace.text_of(f"a photograph of {with_article(CONCEPT)}")
    [place] = text.find(CONCEPT)
    others = [i for i in range(len(text.states)) if i not in place]
    background = text.states[:1] if recipe.background == "start" else text.states[others]
    clock = Clock()

    def watch(_: int, vector: Tensor, __: float) -> None:
        clock.note(torch.cat([background, vector.cpu()[None]]))

    optimize_token(trace, mask, init=CONCEPT, recipe=recipe, watch=watch)
    return clock.track


def official(trace: Trace, mask: Tensor, folder: Path, epochs: int) -> list[tuple[float, Tensor]]:
    """The authors' optimisation on the queries of our trace, with the settings of their experiments."""
    sys.path.insert(0, str(folder))
    block_of = importlib.import_module("ovam.stable_diffusion.daam_block").CrossAttentionDAAMBlock
    module_of = importlib.import_module("ovam.stable_diffusion.daam_module").StableDiffusionDAAM
    optimize_embedding = importlib.import_module("ovam.optimize").optimize_embedding
    blocks = []
    for i, name in enumerate(trace.select()[0]):
        block, weight = trace.blocks[name], trace.key_weights[name].float()
        query = trace.queries["conditional"][name][:, 0].float()  # (step, h·w, head·dim)
        to_k = nn.Linear(*weight[:-1].shape, bias=False)
        to_k.weight.data.copy_(weight[:-1].T)
        heads_first = query.unflatten(-1, (block.heads, -1)).transpose(1, 2).contiguous()
        blocks.append(
            block_of(
                to_k=to_k.requires_grad_(False),
                hidden_states=[heads_first],
                scale=block.scale,
                heads=block.heads,
                name=f"block{i}",
                heads_epochs_activation="token_softmax",
            )
        )
    pipe = type("Parts", (), {"tokenizer": None, "text_encoder": None})
    daam = module_of(blocks=blocks, pipeline=pipe, heatmaps_aggregation="sum", expand_size=tuple(mask.shape))
    text = trace.text_of(f"a photograph of {with_article(CONCEPT)}")
    begin = text.states[[0, text.find(CONCEPT)[0][-1]]]
    target = torch.stack([1 - mask.float(), mask.float()])[None]
    clock = Clock()
    with tqdm(total=epochs, desc="official") as bar:

        def note(epoch, embedding, heat, loss) -> None:
            clock.note(embedding)
            bar.update()

        optimize_embedding(
            daam, begin, target, callback=note, initial_lr=100, epochs=epochs, step_size=120, gamma=0.7
        )
    return clock.track


def run(action: Callable[[], list[tuple[float, Tensor]]]) -> Run:
    with peak_memory(torch.device("cpu")) as taken:
        track = action()
    return Run(track, taken())


def iou(trace: Trace, truth: Tensor, states: Tensor, threshold: float) -> tuple[int, int]:
    """Intersection and union, in pixels, of a map's mask and the truth."""
    guess = minmax(resize(trace.maps(states).values[-1], truth)) > threshold
    return int((guess & truth).sum()), int((guess | truth).sum())


def best_iou(scenes: list[tuple[Trace, Tensor]], states: Tensor) -> float:
    """At the best threshold, over all scenes together."""

    def at(threshold: float) -> float:
        pairs = [iou(trace, truth, states, threshold) for trace, truth in scenes]
        return sum(i for i, _ in pairs) / sum(u for _, u in pairs)

    return max(map(at, THRESHOLDS))


def reached(run_: Run, scene: tuple[Trace, Tensor], goal: float) -> int | None:
    """The first evaluation whose map has an IoU of `goal` on the annotated image."""
    fractions = (i for i, (_, states) in enumerate(run_.track) if best_iou([scene], states) >= goal)
    return next(fractions, None)


def final(run_: Run, scene: tuple[Trace, Tensor], recipe: TokenRecipe) -> Tensor:
    """The vectors with the smallest loss of the recipe, which is what an optimisation returns."""

    def loss(states: Tensor) -> float:
        return Goal(*scene, states[:-1], recipe).loss(states[-1]).item()

    return min((states for _, states in run_.track), key=loss)


def look(pipe, stream: str, count: int, steps: int) -> list[tuple[Trace, Tensor]]:
    """Scenes of CONCEPT, noised at `steps` levels as if they had been denoised in so many steps."""
    side = pipe.unet.config.sample_size
    times = [int(t) for t in torch.linspace(20, 900, steps)]
    found = []
    for picture in of_concept(stream, CONCEPT, count):
        trace = record_image(
            pipe, Image.fromarray(picture.image), picture.caption, timesteps=times, dtype=torch.float32
        )
        assert max(max(block.grid) for block in trace.blocks.values()) == side
        found.append((trace, torch.from_numpy(picture.mask(CONCEPT))))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", type=Path, help="a checkout of the authors' code")
    parser.add_argument("--epochs", type=int, default=800, help="of the paper's recipe (default %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="recorded steps (default %(default)s)")
    parser.add_argument("--unseen", type=int, default=12, help="scenes for the last column")
    given = parser.parse_args(arguments)
    if given.official and not (given.official / "ovam").is_dir():
        parser.error(f"'{given.official}' holds no folder 'ovam': give a checkout of github.com/vpulab/ovam.")

    pipe = load_pipeline(device="cpu")
    [scene], unseen = look(pipe, "tokens", 1, given.steps), look(pipe, "test", given.unseen, given.steps)
    recipe = TokenRecipe(**vars(TOKEN_RECIPES["paper"]) | {"evaluations": given.epochs})
    paper = recipe
    runs: dict[str, tuple[Run, TokenRecipe]] = {}
    if given.official:
        runs["the authors' code"] = run(partial(official, *scene, given.official, given.epochs)), paper
    for name, changes in STEPWISE.items():
        recipe = TokenRecipe(**vars(recipe) | changes)
        runs[name] = run(partial(ours, *scene, recipe)), recipe
    runs["the default"] = run(partial(ours, *scene, TOKEN_RECIPES["fast"])), TOKEN_RECIPES["fast"]

    ends = {name: final(made, scene, how) for name, (made, how) in runs.items()}
    goal = best_iou([scene], next(iter(ends.values())))
    word = scene[0].text_of(f"a photograph of {with_article(CONCEPT)}").states[:-1]  # its class comes last
    print(f"{given.steps} steps, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        f"goal: IoU {goal:.3f} on the annotated image; the word's: {best_iou([scene], word):.3f}, "
        f"on unseen ones {best_iou(unseen, word):.3f}"
    )
    print(
        f"{'':<30}{'all, s':>9}{'goal, s':>9}{'after':>7}{'faster':>9}{'peak MB':>9}{'IoU':>8}{'unseen':>8}"
    )
    first = None
    for name, (made, _) in runs.items():
        at = reached(made, scene, goal)
        seconds = None if at is None else made.track[at][0]
        first = first or seconds
        ratio = "–" if seconds is None else f"{first / max(seconds, 1e-9):.0f} ×"
        print(
            f"{name:<30}{made.track[-1][0]:9.2f}{'–' if seconds is None else f'{seconds:.2f}':>9}"
            f"{'–' if at is None else at + 1:>7}{ratio:>9}{made.peak / 1e6:9.0f}"
            f"{best_iou([scene], ends[name]):8.3f}{best_iou(unseen, ends[name]):8.3f}"
        )


if __name__ == "__main__":
    main()
