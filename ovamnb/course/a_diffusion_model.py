"""Chapter 01: its predictions, its exercises, and the step that its loop takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import beside, encode_prompts, record_image, unet_pass
from ..notebook import Settings
from . import denoising_films
from .exercises import Exercise, Open, verdict_of
from .start_here import best_block

TITLE = "A diffusion model from the inside"
PREDICTIONS: dict[str, str] = {
    "01.1": "how many times fewer numbers the latents have than the picture",
    "01.2": "the timestep at which picture and noise weigh the same",
    "01.3": "what the model sees in nearly pure noise",
    "01.4": "when it is settled where things are",
    "01.5": "what guidance costs",
    "01.6": "the IoU of a square that slipped by a quarter",
}
SEEDS = (0, 2, 3, 4)  # of exercise c's pictures; from 1's noise, few steps draw the car alone
STEPS = 12
TEXTS = ("", "a cat on grass", "a car on grass")
BRIGHT = 0.25  # share of attention at a word's best place, at least: then its thing is there


def times(steps: int, count: int = 1000) -> list[int]:
    """Evenly spaced timesteps for so many passes, the noisiest first, as DDIM has them: 961, 921, …, 1."""
    return [1 + i * (count // steps) for i in reversed(range(steps))]


def as_velocity(pipe, prediction: Tensor, noisy: Tensor, t: int | Tensor) -> Tensor:
    """The UNet's prediction as v = √ᾱ ε − √(1−ᾱ) x₀, whether it was trained to predict v, ε or x₀."""
    alpha = pipe.scheduler.alphas_cumprod[int(t)].cpu()
    kind = pipe.scheduler.config.prediction_type
    if kind == "v_prediction":
        return prediction
    if kind == "epsilon":
        return (prediction - (1 - alpha).sqrt() * noisy) / alpha.sqrt()
    return (alpha.sqrt() * noisy - prediction) / (1 - alpha).sqrt()


def ddim_step(noisy: Tensor, velocity: Tensor, alpha: Tensor, alpha_before: Tensor) -> Tensor:
    """x_before = √ᾱ_before x̂₀ + √(1−ᾱ_before) ε̂: one deterministic step (DDIM, Song et al., ICLR 2021).

    `noisy`, `velocity` (batch, channel, h, w); x̂₀ = √ᾱ x_t − √(1−ᾱ) v and ε̂ = √(1−ᾱ) x_t + √ᾱ v.
    """
    estimate = alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity
    noise = (1 - alpha).sqrt() * noisy + alpha.sqrt() * velocity
    return alpha_before.sqrt() * estimate + (1 - alpha_before).sqrt() * noise


def yours_or_ours(mine: Callable) -> Callable:
    """The reader's step, as soon as it is right, else `ddim_step`; a line says which."""
    (exercise,) = (one for one in EXERCISES if one.name == "01.b")
    if verdict_of(exercise, mine).right:
        print("This loop takes your step.")
        return mine
    print("This loop takes the course's step, until yours is right.")
    return ddim_step


@contextmanager
def counting(pipe) -> Iterator[list[int]]:
    """`with counting(pipe) as passes: …`, then `sum(passes)`: how many pictures went through the UNet."""
    passes: list[int] = []

    def count(module, given, named, output) -> None:
        passes.append(len(given[0] if given else named["sample"]))

    handle = pipe.unet.register_forward_hook(count, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()


def settled(frames: Tensor, part: float = 0.8) -> int:
    """The first of `frames` (step, 3, h, w) that looks like the last one from afar: on 8×8 places, each
    channel less its mean, their cosine reaches `part`."""
    coarse = F.adaptive_avg_pool2d(frames, 8)  # (step, 3, 8, 8)
    coarse = (coarse - coarse.mean(dim=(-2, -1), keepdim=True)).flatten(1)
    like = F.cosine_similarity(coarse, coarse[-1:], dim=1)
    return int((like >= part).nonzero()[0])


def detail(picture: Tensor) -> float:
    """How much neighbouring pixels of (3, h, w) differ on average: a blur has little, noise the most."""
    across, down = picture.diff(dim=-1).abs().mean(), picture.diff(dim=-2).abs().mean()
    return float(across + down)


def iou(mask: Tensor, truth: Tensor) -> float:
    """|A ∩ B| / |A ∪ B| of two masks (h, w) bool; nan where both are empty: there was nothing to find."""
    both, either = int((mask & truth).sum()), int((mask | truth).sum())
    return both / either if either else float("nan")


def _masks(generator: torch.Generator) -> list[tuple]:
    def some(h: int, w: int, part: float) -> Tensor:
        return torch.rand(h, w, generator=generator) < part

    none = torch.zeros(4, 7, dtype=torch.bool)
    return [
        (some(5, 8, 0.5), some(5, 8, 0.4)),
        (some(9, 6, 0.2), some(9, 6, 0.7)),
        (none, some(4, 7, 0.5)),
        (some(4, 7, 0.3), none),
        (none, none),
        (some(7, 11, 0.8), some(7, 11, 0.3)),
    ]


def _part(top: Callable, bottom: Callable, nothing: float = float("nan")) -> Callable:
    def answer(mask: Tensor, truth: Tensor) -> float:
        if not (mask | truth).any():
            return nothing
        below = float(bottom(mask, truth))
        return float(top(mask, truth)) / below if below else 0.0

    return answer


def _both(mask: Tensor, truth: Tensor) -> Tensor:
    return (mask & truth).sum()


def _either(mask: Tensor, truth: Tensor) -> Tensor:
    return (mask | truth).sum()


def _steps(generator: torch.Generator) -> list[tuple]:
    shapes = ((1, 4, 5, 7), (2, 3, 6, 4), (1, 2, 3, 8))
    return [
        (
            torch.randn(shape, generator=generator),
            torch.randn(shape, generator=generator),
            torch.tensor(alpha),
            torch.tensor(before),
        )
        for shape, alpha, before in zip(shapes, (0.1, 0.45, 0.8), (0.25, 0.7, 0.98), strict=True)
    ]


def _estimate(noisy: Tensor, velocity: Tensor, alpha: Tensor) -> Tensor:
    return alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity


def _stays_without_roots(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    estimate, noise = alpha * noisy - (1 - alpha) * velocity, (1 - alpha) * noisy + alpha * velocity
    return before * estimate + (1 - before) * noise


def _same_noise_level(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    return ddim_step(noisy, velocity, alpha, alpha)


def _velocity_as_noise(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    estimate = (noisy - (1 - alpha).sqrt() * velocity) / alpha.sqrt()
    return before.sqrt() * estimate + (1 - before).sqrt() * velocity


def _all_at_once(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    return _estimate(noisy, velocity, alpha)


def _no_noise_back(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    return before.sqrt() * _estimate(noisy, velocity, alpha)


def _velocity_back(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    return _no_noise_back(noisy, velocity, alpha, before) + (1 - before).sqrt() * velocity


def _backwards(noisy: Tensor, velocity: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    return ddim_step(noisy, velocity, before, alpha)


@torch.no_grad()
def mixed(pipe, mix: Callable, seed: int, *, steps: int = STEPS, texts: Sequence[str] = TEXTS) -> Tensor:
    """The picture (3, h, w) that comes out where `mix` makes one velocity of those for three texts, each
    (1, channel, h, w): the empty one, the left one, the right one."""
    size = pipe.unet.config.sample_size
    h, w = (size, size) if isinstance(size, int) else size
    noisy = torch.randn(
        1, pipe.vae.config.latent_channels, h, w, generator=torch.Generator().manual_seed(seed)
    )
    noisy = noisy.to(pipe.unet.device, pipe.unet.dtype)
    states, extra = encode_prompts(pipe, texts, noisy)
    alphas, further, walk = pipe.scheduler.alphas_cumprod.cpu(), beside(pipe, noisy), times(steps)
    for t, before in zip(walk, [*walk[1:], 0], strict=True):
        prediction = unet_pass(pipe.unet, noisy, torch.tensor(t).to(noisy.device), states, extra, further)
        velocity = mix(*(as_velocity(pipe, prediction, noisy, t)[k : k + 1] for k in range(len(texts))))
        noisy = ddim_step(noisy, velocity, alphas[t], alphas[before])
    return denoising_films.decode(pipe, noisy)[0]


def _two_sided(mix: Callable, pipe, settings: Settings) -> tuple[bool, str]:
    """Is the cat at the left and the car at the right, whatever the seed?"""
    tries = torch.randn(len(TEXTS), 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    given = mix(*tries)
    if given is None or given is Ellipsis:
        raise NotImplementedError
    if not isinstance(given, Tensor) or given.shape != tries[0].shape:
        return False, "The mixture should be a tensor of the same shape as each of the three."
    right = {"cat": 0, "car": 0}
    for seed in SEEDS:
        picture = mixed(pipe, mix, seed)
        pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype("uint8")
        trace = record_image(pipe, pixels, "a cat and a car on grass", timesteps=(100, 300), seed=seed)
        for word, side in (("cat", 0), ("car", 1)):
            heat = trace.maps(f"a photograph of {word}", blocks=best_block(settings)).share[word]
            best = int(heat.argmax()) % heat.shape[1]
            right[word] += int(best >= heat.shape[1] / 2) == side and float(heat.max()) > BRIGHT
    said = ", ".join(f"the {word} on its side in {count} of {len(SEEDS)}" for word, count in right.items())
    if sum(right.values()) >= 2 * len(SEEDS) - 1:
        return True, f"Two prompts, one picture: {said}."
    return False, f"Not yet: {said}. Let each place of the picture follow its own prompt, with guidance."


EXERCISES: tuple[Exercise | Open, ...] = (
    Exercise(
        name="01.a",
        title="Intersection over union",
        stars=1,
        cases=_masks,
        right=iou,
        ideas={
            "That is the share of the truth that was found: a mask of everything gets 1.": _part(
                _both, lambda mask, truth: truth.sum()
            ),
            "That is the share of the mask that is right: one good pixel gets 1.": _part(
                _both, lambda mask, truth: mask.sum()
            ),
            "That is Dice, which counts the shared pixels twice: divide by the union.": _part(
                lambda mask, truth: 2 * _both(mask, truth), lambda mask, truth: mask.sum() + truth.sum()
            ),
            "You divided by the sum of both areas, where shared pixels count twice.": _part(
                _both, lambda mask, truth: mask.sum() + truth.sum()
            ),
            "You counted all pixels that agree: the large background nearly always does.": (
                lambda mask, truth: float((mask == truth).float().mean())
            ),
            "Two empty masks: 0 says that something was missed, and nothing was. Give nan.": _part(
                _both, _either, 0.0
            ),
            "Two empty masks: 1 rewards finding nothing in nothing. Give nan, and it is skipped.": _part(
                _both, _either, 1.0
            ),
        },
        says="Nothing to find and nothing found is no question at all, and a mean leaves it out.",
        otherwise="Count the pixels in both masks, and the pixels in either of them.",
    ),
    Exercise(
        name="01.b",
        title="One step of denoising",
        stars=2,
        cases=_steps,
        right=ddim_step,
        ideas={
            "The square roots are missing: ᾱ is a share of variance, √ᾱ the weight.": _stays_without_roots,
            "Nothing moved: the last line needs ᾱ_before.": _same_noise_level,
            "You took v for the noise. The noise is ε̂ = √(1−ᾱ) x_t + √ᾱ v.": _velocity_as_noise,
            "That is x̂₀ itself. The first estimates are blurs: put most of the noise back.": _all_at_once,
            "The noise is gone: add √(1−ᾱ_before) ε̂, or the next pass gets less noise than it expects.": (
                _no_noise_back
            ),
            "You put v back instead of the noise ε̂ that it contains.": _velocity_back,
            "The two levels are exchanged: estimate with ᾱ_t, then put noise back with ᾱ_before.": _backwards,
        },
        says="This is DDIM. The same noise always gives the same picture.",
        otherwise="First x̂₀, then ε̂, then the noising formula once more with ᾱ_before.",
    ),
    Open("01.c", "Two prompts in one picture", _two_sided),
)
