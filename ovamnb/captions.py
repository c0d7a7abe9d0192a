"""What an image shows, in words: the rest of DiffSegmenter's class prompts.

A captioner is any function (image, start of the text) → how the text goes on. Here are two: BLIP for
photographs, and one made of the diffusion model itself, which needs no other network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .evidence import evidence
from .images import as_rgb
from .text import with_article

BLIP = "Salesforce/blip-image-captioning-large"  # the paper's
BLIP_REVISION = "2227ac38c9f16105cb0412e7cab4759978a8fd90"


class BlipCaptioner:
    """An image's caption by BLIP (Li et al., ICML 2022), through transformers.

    describe = BlipCaptioner.load()
    describe(photograph)                              # "a cat sitting on a sofa"
    describe(photograph, "a photograph of a cat")     # "sitting on a sofa"
    ov.segment(pipe, photograph, classes, caption=describe)
    """

    def __init__(self, model, processor, *, longest: int = 30):
        self.model, self.processor, self.longest = model, processor, longest

    @classmethod
    def load(cls, name: str = BLIP, revision: str | None = BLIP_REVISION, **options) -> BlipCaptioner:
        """Weights from the hub (1.9 GB the first time) or a folder; `options` as for `from_pretrained`."""
        from transformers import BlipForConditionalGeneration, BlipProcessor

        revision = revision if name == BLIP else None
        model = BlipForConditionalGeneration.from_pretrained(
            name, revision=revision, use_safetensors=True, **options
        )
        return cls(model.eval(), BlipProcessor.from_pretrained(name, revision=revision))

    @torch.no_grad()
    def __call__(self, image, start: str = "") -> str:
        inputs = self.processor(images=as_rgb(image), text=start or None, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        words = self.model.generate(**inputs, max_new_tokens=self.longest)
        said = self.processor.decode(inputs["input_ids"][0], skip_special_tokens=True) if start else ""
        return self.processor.decode(words[0], skip_special_tokens=True).removeprefix(said).strip()


class DiffusionCaptioner:
    """A caption out of given parts, chosen by what helps the diffusion model to denoise the image.

        describe = DiffusionCaptioner(pipe, classes, places=["on grass", "in the sky"])
        describe(image)                                # "a cat and a car on grass"

    `things`: class names, of which the best `most` are named if their evidence reaches `threshold`;
    `places`: phrases for the ground, of which the best one is taken. What `start` names already is not named
    again.
    """

    def __init__(
        self,
        pipe,
        things: Sequence[str],
        *,
        places: Sequence[str] = (),
        most: int = 2,
        threshold: float = 0.0,
        **options,
    ):
        self.pipe, self.things, self.places = pipe, tuple(things), tuple(places)
        self.most, self.threshold, self.options = most, threshold, options

    def __call__(self, image, start: str = "") -> str:
        named = self.best(image, {name: f"a photograph of {with_article(name)}" for name in self.things})
        place = self.best(image, {phrase: f"a photograph of something {phrase}" for phrase in self.places})
        shown = [name for name, gain in named.items() if gain > self.threshold][: self.most]
        things = [with_article(name) for name in shown if name not in start]
        return " ".join([" and ".join(things), *list(place)[:1]]).strip()

    def best(self, image, texts: Mapping[str, str]) -> dict[str, float]:
        """The keys of `texts` with their evidence, the highest first."""
        if not texts:
            return {}
        gains = evidence(self.pipe, image, list(texts.values()), **self.options).tolist()
        return dict(sorted(zip(texts, gains, strict=True), key=lambda pair: -pair[1]))
