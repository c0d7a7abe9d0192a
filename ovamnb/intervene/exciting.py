"""Latents pushed until every word is looked at (Attend-and-Excite)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..maps import attention
from ..plumbing import checks
from ..select import Blocks, as_steps, names_of
from .passes import Passes
from .wording import encoder_of


def neglects(maps: Tensor, *, sigma: float = 0.5) -> Tensor:
    """1 − max over places of each smoothed map: `maps` (word, h, w) in [0, 1] → (word,), 0 for a word that
    some place looks at and nothing else, 1 for one that none looks at.

    The Gaussian, 3×3 with σ = 0.5 in the paper, keeps a single place from counting.
    """
    at = torch.arange(-1.0, 2.0, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[:, None] * (kernel / kernel.sum())[None]
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect" if min(maps.shape[-2:]) > 1 else "replicate")
    return 1 - F.conv2d(padded, kernel[None, None]).flatten(1).amax(dim=1)


def neglect(maps: Tensor) -> Tensor:
    """The loss of Attend-and-Excite (Chefer et al. 2023, arXiv 2301.13826, Eq. 1): that of the most neglected
    word, max over words of `neglects`."""
    return neglects(maps).max()


def among_words(maps: Tensor, last: int, sharpness: float = 100.0) -> Tensor:
    """Attention (..., token) → (..., last − 1): the share of each word among the words alone, sharpened, as
    the authors' code has it: softmax(100 · A[1:last]), start token, end token and padding left out."""
    return (sharpness * maps[..., 1:last]).softmax(dim=-1)


class Push:
    """What `excite` yields: a callback for the end of a step. `losses`: {step: the loss of each word, before
    and after every update}."""

    def __init__(self, now: Passes, tokens: Sequence[Sequence[int]], last: int, **options) -> None:
        self.now, self.tokens, self.last = now, tokens, last
        self.rate, self.steps, self.targets, self.most, self.sharpness = (
            options[name] for name in ("rate", "steps", "targets", "most", "sharpness")
        )
        self.losses: dict[int, list[tuple[float, ...]]] = {}
        self.queries: dict[str, Tensor] = {}  # of the pass that is looked at, by attention
        self.keys: dict[str, Tensor] = {}
        self.looking = False
        self.called: tuple[tuple, dict] | None = None  # what the UNet got last

    def __call__(self, pipe, step: int, timestep, kwargs: Mapping) -> dict:
        """diffusers' `callback_on_step_end`: the latents (image, channel, h, w) of the next step, pushed."""
        following = step + 1
        timesteps = pipe.scheduler.timesteps
        if len(timesteps) < 2:
            raise ValueError("Latents are pushed between two steps; this generation has only one.")
        if following >= len(timesteps) or not self._counts(following, len(timesteps)):
            return {}
        latents = kwargs["latents"]
        pushed = latents
        for _ in range(self.most if following in self.targets else 1):
            losses, gradient = self.look(pushed, timesteps[following])
            self.losses.setdefault(following, []).append(tuple(losses.tolist()))
            worst = float(losses.max())
            if following in self.targets and worst <= 1 - self.targets[following]:
                break
            fade = 1 - 0.5 * following / max(1, len(timesteps) - 1)  # the authors': √ from 1 down to √½
            pushed = pushed - self.rate * fade**0.5 * gradient
        return {"latents": pushed}

    def _counts(self, step: int, count: int) -> bool:
        return step in self.steps if self.steps is not None else step < max(2, count // 2)

    def look(self, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each word (word,) at these latents, and the gradient of the largest, like them."""
        with torch.inference_mode(False), torch.enable_grad():
            x = latents.detach().clone().requires_grad_()
            losses = neglects(self._maps(x, timestep))
            [gradient] = torch.autograd.grad(losses.max(), x)
        return losses.detach(), gradient

    def _maps(self, x: Tensor, timestep: Tensor) -> Tensor:
        """(word, h, w): each word's share of the attention that words get, mean over heads and blocks."""
        now, (args, kwargs) = self.now, self.called
        self.queries, self.keys, self.looking = {}, {}, True
        try:
            scaled = now.pipe.scheduler.scale_model_input(x, timestep)
            # `forward` itself: no hook of a recorder shall take this for a pass of the generation.
            now.unet.forward(scaled, timestep, *args, **kwargs)
        finally:
            self.looking = False
        names = names_of(now.blocks, {name: now.grids[name] for name in self.queries})
        per_grid: dict[tuple[int, int], list[Tensor]] = {}
        for name in names:
            attn = now.cross[name]
            found = attention(self.queries[name], self.keys[name], heads=attn.heads, scale=attn.scale)
            per_grid.setdefault(now.grids[name], []).append(found[0].mean(dim=0))  # (h·w, token)
        size = max(per_grid, key=lambda grid: grid[0] * grid[1])
        maps = []
        for grid, found in per_grid.items():
            each = torch.stack(found).mean(dim=0).T.unflatten(-1, grid)  # (token, h, w)
            if grid != size:
                each = F.interpolate(each[None], size=size, mode="bilinear", align_corners=False)[0]
            maps += [each] * len(found)
        mean = torch.stack(maps).mean(dim=0).permute(1, 2, 0)  # (h, w, token)
        share = among_words(mean, self.last, self.sharpness)  # (h, w, word)
        return torch.stack([share[..., [t - 1 for t in place]].mean(dim=-1) for place in self.tokens])

    def on_pass(self, unet: nn.Module, args: tuple, kwargs: dict) -> None:
        """Keep what else the UNet reads, of the conditional half alone."""
        part = self.now.generation.parts["conditional"]
        if self.now.generation.size[0] != 1:
            raise ValueError("Latents are pushed one picture at a time: draw one in each call.")
        count = len(args[0] if args else kwargs["sample"])

        def half(value):
            if isinstance(value, Tensor):
                return value[part] if value.ndim and len(value) == count else value
            return {key: half(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value

        rest = {key: half(value) for key, value in kwargs.items() if key not in ("sample", "timestep")}
        self.called = tuple(half(value) for value in args[2:]), rest

    def keep(self, where: str, name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if self.looking:
            getattr(self, where)[name] = output


@contextmanager
def excite(
    pipe,
    prompt: str,
    words: Sequence[str],
    *,
    rate: float = 20.0,
    blocks: Blocks | None = None,
    steps: int | Iterable[int] | None = None,
    targets: Mapping[int, float] | None = None,
    most: int = 20,
    sharpness: float = 100.0,
    guidance: bool | None = None,
) -> Iterator[Push]:
    """Push the latents, step by step, until each of these words is looked at by some place.

        with intervene.excite(pipe, prompt := "a cat and a dog", ["cat", "dog"]) as push:
            image = pipe(prompt, callback_on_step_end=push).images[0]
        push.losses         # {step: [(cat's, dog's)]}: 1 for a word that no place looks at

    Attend-and-Excite (Chefer et al. 2023, arXiv 2301.13826): before a step the UNet looks at the latents x
    and the prompt alone, and x ← x − α_t ∇ₓ L with the loss L of `neglect`. The UNet runs once more, with
    gradients. Nothing in the attention is changed, and no weight: only where the generation stands.

    `rate`: α of the first step, falling as the authors'. `steps`: before which of them to push, from 1 on;
    None for the first half, of two or three steps before the second. `targets`: {step: what each word's map
    must reach at its best place}, pushed until it does or `most` times; the authors have {0: .05, 10: .5,
    20: .8} of 50 steps. `blocks`: whose maps count, as for `Trace.maps`; None for all but the mid's.
    `sharpness`: the authors' factor before the softmax over words, see `among_words`.

    Raises KeyError for a word that is not in the prompt, and ValueError for a batch of several pictures or a
    generation of one step.
    """
    checks.number("rate", rate, 0, above=True)
    checks.number("sharpness", sharpness, 0, above=True)
    words = checks.entries("words", words, "words of the prompt")
    if not words:
        raise ValueError("There is no word to push: give at least one of the prompt's.")
    text = encoder_of(pipe).read(checks.instance("prompt", prompt, str, "one text"))
    tokens = text.places(words)
    wanted = as_steps(steps)
    targets = {
        checks.whole("targets", step, 1, why="are for steps"): checks.number("a target", least, 0, 1)
        for step, least in (targets or {}).items()
    }
    now = Passes(pipe, blocks=blocks, guidance=guidance)
    push = Push(
        now, tokens, len(text.tokens) - 1, rate=rate, steps=wanted, targets=targets, sharpness=sharpness,
        most=checks.whole("most", most, 1, why="counts updates"),
    )  # fmt: skip
    now.begun.append(lambda: now.require_prompt(prompt))
    for name, attn in now.cross.items():
        for where, module in (("queries", attn.to_q), ("keys", attn.to_k)):
            now.hooks.enter_context(module.register_forward_hook(partial(push.keep, where, name)))
    try:
        with now.attached(), now.unet.register_forward_pre_hook(push.on_pass, with_kwargs=True):
            yield push
    finally:
        push.called, push.queries, push.keys = None, {}, {}
