"""Evidence of the diffusion model itself: what it denoises better when it reads "cat" shows a cat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..images import beside, check_prompts, encode_image, encode_prompts, noised, prepare, unet_pass
from ..plumbing import checks
from ..plumbing.english import mentions, with_article

TEMPLATE = "a photograph of {}"
Words = Sequence[str]


@torch.no_grad()
def evidence(
    pipe,
    image,
    texts: Sequence[str],
    *,
    timesteps: int | Sequence[int] = (500, 700),
    samples: int = 2,
    seed: int = 0,
    batch: int = 16,
) -> Tensor:
    """E(text) = 1 − error(text) / error(no text), where error = mean ‖prediction − target‖²: (text,).

        gains = evidence(pipe, image, ["a cat", "a car"])    # > 0: the words help to denoise this image

    All texts are judged on the same noise, `samples` draws at each of `timesteps`, so that only the texts
    differ. An image that the model denoises better when it reads "cat" shows a cat. (Diffusion Classifier, Li
    et al., ICCV 2023, arXiv 2303.16203, compares such errors between classes; here each is compared with the
    error without any text.) `batch`: how many texts pass the UNet at once.

    Raises ValueError without texts and for words that the model does not know, since it would read all of
    them as the same word; TypeError for arguments of a wrong kind.
    """
    texts = checks.entries("texts", texts, "texts")
    if not texts:
        raise ValueError("There is no text to judge: give at least one.")
    batch = checks.whole("batch", batch, 1, why="counts texts")
    check_prompts(pipe, texts)
    latents = encode_image(pipe, prepare(pipe, image))
    draws, further = list(noised(pipe, latents, timesteps, samples, seed)), beside(pipe, latents)
    errors = torch.zeros(len(texts) + 1)
    for start in range(0, len(errors), batch):
        states, extra = encode_prompts(pipe, ["", *texts][start : start + batch], latents)
        for noisy, noise, t in draws:
            prediction = unet_pass(pipe.unet, noisy, t, states, extra, further)
            error = prediction - target(pipe, latents, noise, t)
            errors[start : start + batch] += error.float().square().mean(dim=(1, 2, 3)).cpu()
    return 1 - errors[1:] / errors[0]


def target(pipe, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the UNet was trained to predict: the noise, the clean latents, or v = √ᾱ ε − √(1 − ᾱ) x."""
    kind = pipe.scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return latents
    alpha = pipe.scheduler.alphas_cumprod[int(t)].to(latents)
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents


class DiffusionFilter:
    """Keeps the classes whose name helps the diffusion model to denoise the image (see `evidence`).

        keep = DiffusionFilter(pipe, threshold=0.01)
        ov.segment(pipe, image, classes, keep=keep)

    `threshold`: the evidence that a class must reach; `most`: keep at most so many, the best. At least one
    class is always kept. `template`: the text for a class, whose name with its article takes the place of
    {}. `options`: those of `evidence`.
    """

    def __init__(
        self, pipe, *, threshold: float = 0.0, most: int | None = None, template: str = TEMPLATE, **options
    ):
        self.pipe, self.threshold, self.most = pipe, threshold, most
        self.template, self.options = template, options

    def __call__(self, image, classes: Sequence[str]) -> list[str]:
        classes = checks.entries("classes", classes, "words")
        texts = [self.template.format(with_article(name)) for name in classes]
        gains = evidence(self.pipe, image, texts, **self.options)
        best = gains.argsort(descending=True)[: self.most].tolist()
        kept = {i for i in best if gains[i] >= self.threshold} | set(best[:1])
        return [name for i, name in enumerate(classes) if i in kept]


class DiffusionCaptioner:
    """A caption made of given parts: those that best help the diffusion model to denoise the image.

        describe = DiffusionCaptioner(pipe, classes, places=["on grass", "in the sky"])
        describe(image)                                # "a cat and a car on grass"

    `things`: class names, of which the best `most` are named if their evidence reaches `threshold`;
    `places`: phrases for the ground, of which the best one is taken. What `start` already names is left out.
    `options`: those of `evidence`.
    """

    def __init__(
        self, pipe, things: Words, *, places: Words = (), most: int = 2, threshold: float = 0.0, **options
    ):
        self.pipe, self.things, self.places = pipe, tuple(things), tuple(places)
        self.most, self.threshold, self.options = most, threshold, options

    def __call__(self, image, start: str = "") -> str:
        named = self.best(image, {name: TEMPLATE.format(with_article(name)) for name in self.things})
        place = self.best(image, {phrase: TEMPLATE.format(f"something {phrase}") for phrase in self.places})
        shown = [name for name, gain in named.items() if gain >= self.threshold][: self.most]
        things = [with_article(name) for name in shown if not mentions(start, name)]
        return " ".join([" and ".join(things), *list(place)[:1]]).strip()

    def best(self, image, texts: Mapping[str, str]) -> dict[str, float]:
        """The keys of `texts` with their evidence, the highest first."""
        if not texts:
            return {}
        gains = evidence(self.pipe, image, list(texts.values()), **self.options).tolist()
        return dict(sorted(zip(texts, gains, strict=True), key=lambda pair: -pair[1]))
