"""Which of many candidate classes an image shows: what DiffSegmenter asks before it cuts.

A filter is any function (image, classes) → the classes to keep. Here are two: CLIP for photographs, and one
made of the diffusion model itself, which needs no other network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from . import checks
from .evidence import evidence
from .images import as_rgb
from .text import with_article

CLIP = "openai/clip-vit-large-patch14"
CLIP_REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"


class ClipFilter:
    """Keeps what CLIP (Radford et al., ICML 2021) finds near the image, or near its caption.

        keep = ClipFilter.load(captioner=BlipCaptioner.load())
        ov.segment(pipe, photograph, voc_classes, keep=keep)

    A class stays if its image–text similarity is at least `near_best` (0.97) of the best class's, or, with a
    captioner, its text–text similarity with the caption at least `near_caption` (0.8): the rule that the
    authors of DiffSegmenter describe and have not published. Or if the similarity itself is at least `least`:
    for a CLIP whose cosines can be compared between images, as the bundled one's (`load("bundled")`).
    """

    def __init__(
        self,
        model,
        processor,
        *,
        captioner: Callable[[object], str] | None = None,
        near_best: float = 0.97,
        near_caption: float = 0.8,
        least: float = math.inf,
    ):
        self.model, self.processor, self.captioner = model, processor, captioner
        self.near_best, self.near_caption, self.least = near_best, near_caption, least

    @classmethod
    def load(cls, name: str = CLIP, revision: str | None = CLIP_REVISION, **options) -> ClipFilter:
        """Weights from the hub (1.7 GB the first time) or a folder, or the "bundled" ones, which know emoji
        scenes; `options` as for the class."""
        if name == "bundled":
            from .emoji.clip import least_similarity, load_clip

            return cls(*load_clip(), **{"near_best": 1.0, "least": least_similarity()} | options)
        from transformers import CLIPModel, CLIPProcessor

        revision = revision if name == CLIP else None
        model = CLIPModel.from_pretrained(name, revision=revision, use_safetensors=True)
        return cls(model.eval(), CLIPProcessor.from_pretrained(name, revision=revision), **options)

    @torch.no_grad()
    def __call__(self, image, classes: Sequence[str]) -> list[str]:
        """The classes that the image shows; ValueError for those with a word that this CLIP does not know."""
        classes = checks.entries("classes", classes, "words")
        if strange := [name for name in classes if not self.knows(name)]:
            raise ValueError(
                f"This CLIP does not know all words of {', '.join(map(repr, strange))}: name it otherwise."
            )
        picture, texts = self.embed(image, [f"a photograph of {with_article(name)}" for name in classes])
        near = texts @ picture[0]  # (class,), cosines
        kept = (near >= self.near_best * near.max()) | (near >= self.least)
        if self.captioner is not None:
            caption = self.embed(image, [self.captioner(image)])[1][0]
            kept |= texts @ caption >= self.near_caption
        return [name for name, stays in zip(classes, kept.tolist(), strict=True) if stays]

    def knows(self, text: str) -> bool:
        """Whether no word of a text is the unknown token. (To CLIP's own tokenizer none is: it spells.)"""
        tokenizer = self.processor.tokenizer
        spells = tokenizer.unk_token_id in (None, tokenizer.eos_token_id)
        return spells or tokenizer.unk_token_id not in tokenizer(text)["input_ids"]

    def embed(self, image, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of the image (1, dim) and of the texts (text, dim)."""
        inputs = self.processor(
            images=as_rgb(image), text=list(texts), padding=True, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        output = self.model(**inputs)
        return F.normalize(output.image_embeds, dim=-1), F.normalize(output.text_embeds, dim=-1)


class DiffusionFilter:
    """Keeps the classes whose name helps the diffusion model to denoise the image (see `evidence`).

        keep = DiffusionFilter(pipe, threshold=0.01)
        ov.segment(pipe, image, classes, keep=keep)

    `threshold`: the evidence a class must reach; `most`: at most this many, the best. At least one class is
    always kept. `template`: the text for a class with its article, "{}" for no more than that. `options`:
    those of `evidence`.
    """

    def __init__(
        self,
        pipe,
        *,
        threshold: float = 0.0,
        most: int | None = None,
        template: str = "a photograph of {}",
        **options,
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
