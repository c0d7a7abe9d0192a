"""Other networks that say what an image shows: CLIP as a filter of classes, BLIP as a captioner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pipelines import find_device
from ..plumbing import checks
from ..plumbing.english import with_article
from ..plumbing.rgb import as_rgb
from .denoising import TEMPLATE

CLIP = "openai/clip-vit-large-patch14"
CLIP_REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"
BLIP = "Salesforce/blip-image-captioning-large"  # the paper's
BLIP_REVISION = "2227ac38c9f16105cb0412e7cab4759978a8fd90"


class ClipFilter:
    """Keeps the classes that CLIP (Radford et al., ICML 2021) finds near the image, or near its caption.

        keep = ClipFilter.load(captioner=BlipCaptioner.load())
        ov.segment(pipe, photograph, voc_classes, keep=keep)

    A class stays if its image–text similarity is at least `near_best` of the best class's, or, with a
    captioner, its text–text similarity with the caption at least `near_caption`: the rule that the authors of
    DiffSegmenter describe without code. It also stays if its similarity is at least `least`: for a CLIP whose
    cosines can be compared between images, such as the bundled one (`load("bundled")`).
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
        name: str = "",
    ):
        self.name = name  # what results are told apart by
        self.model, self.processor, self.captioner = model, processor, captioner
        self.near_best, self.near_caption, self.least = near_best, near_caption, least
        self._embedded: dict[str, Tensor] = {}  # of the classes, which come back with every picture

    @classmethod
    def load(
        cls, name: str = CLIP, revision: str | None = CLIP_REVISION, *, device=None, **options
    ) -> ClipFilter:
        """Weights from the hub (1.7 GB the first time) or a folder, or the "bundled" ones, which know emoji
        scenes; on `device`, None for the best one here; `options` as for the class."""
        device = find_device(device)
        if name == "bundled":
            from .clip import least_similarity, load_clip

            model, processor = load_clip()
            chosen = {"near_best": 1.0, "least": least_similarity()} | options
            return cls(model.to(device), processor, name=name, **chosen)
        from transformers import CLIPModel, CLIPProcessor

        revision = revision if name == CLIP else None
        model = CLIPModel.from_pretrained(name, revision=revision, use_safetensors=True)
        processor = CLIPProcessor.from_pretrained(name, revision=revision)
        return cls(model.to(device).eval(), processor, name=f"{name} {revision or ''}", **options)

    @torch.no_grad()
    def __call__(self, image, classes: Sequence[str]) -> list[str]:
        """The classes that the image shows; ValueError for those with a word that this CLIP does not know."""
        classes = checks.entries("classes", classes, "words")
        if strange := [name for name in classes if not self.knows(name)]:
            raise ValueError(
                f"This CLIP does not know all words of {', '.join(map(repr, strange))}: name it otherwise."
            )
        picture, texts = self.embed(image, [TEMPLATE.format(with_article(name)) for name in classes])
        near = texts @ picture[0]  # (class,), cosines
        kept = (near >= self.near_best * near.max()) | (near >= self.least)
        if self.captioner is not None:
            kept |= texts @ self._embed_text(self.captioner(image)) >= self.near_caption
        return [name for name, stays in zip(classes, kept.tolist(), strict=True) if stays]

    def knows(self, text: str) -> bool:
        """Whether the tokenizer knows every word. (CLIP's own does: it spells those it does not know.)"""
        tokenizer = self.processor.tokenizer
        spells = tokenizer.unk_token_id in (None, tokenizer.eos_token_id)
        return spells or tokenizer.unk_token_id not in tokenizer(text)["input_ids"]

    @torch.no_grad()
    def embed(self, image, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Unit vectors of the image (1, dim) and of the texts (text, dim). A text is encoded once, and by
        itself: beside others its last digits would depend on them."""
        inputs = self.processor(images=as_rgb(image), return_tensors="pt").to(self.model.device)
        pixels = inputs["pixel_values"].to(self.model.dtype)
        picture = self.model.get_image_features(pixel_values=pixels).pooler_output
        for text in texts:
            if text not in self._embedded:
                self._embedded[text] = self._embed_text(text)
        return F.normalize(picture, dim=-1), torch.stack([self._embedded[text] for text in texts]).to(picture)

    def _embed_text(self, text: str) -> Tensor:
        inputs = self.processor(text=text, truncation=True, return_tensors="pt").to(self.model.device)
        return F.normalize(self.model.get_text_features(**inputs).pooler_output[0], dim=-1)


class BlipCaptioner:
    """An image's caption by BLIP (Li et al., ICML 2022), through transformers.

    describe = BlipCaptioner.load()
    describe(photograph)                              # "a cat sitting on a sofa"
    describe(photograph, "a photograph of a cat")     # "sitting on a sofa"
    ov.segment(pipe, photograph, classes, caption=describe)

    What was said of the last image is kept, so that several methods hear of it once.
    """

    def __init__(self, model, processor, *, longest: int = 30, name: str = ""):
        self.name = name
        self.model, self.processor, self.longest = model, processor, longest
        self._image, self._said = (), {}

    @classmethod
    def load(
        cls, name: str = BLIP, revision: str | None = BLIP_REVISION, *, device=None, **options
    ) -> BlipCaptioner:
        """Weights from the hub (1.9 GB the first time) or a folder, on `device`, None for the best one here;
        `options` as for `from_pretrained`."""
        from transformers import BlipForConditionalGeneration, BlipProcessor

        revision = revision if name == BLIP else None
        model = BlipForConditionalGeneration.from_pretrained(
            name, revision=revision, use_safetensors=True, **options
        )
        processor = BlipProcessor.from_pretrained(name, revision=revision)
        return cls(model.to(find_device(device)).eval(), processor, name=f"{name} {revision or ''}")

    def __call__(self, image, start: str = "") -> str:
        image = as_rgb(image)
        if (this := (image.size, image.tobytes())) != self._image:
            self._image, self._said = this, {}
        if start not in self._said:
            self._said[start] = self._caption(image, start)
        return self._said[start]

    @torch.no_grad()
    def _caption(self, image, start: str) -> str:
        inputs = self.processor(images=image, text=start or None, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        words = self.model.generate(**inputs, max_new_tokens=self.longest)
        given = self.processor.decode(inputs["input_ids"][0], skip_special_tokens=True) if start else ""
        return self.processor.decode(words[0], skip_special_tokens=True).removeprefix(given).strip()


def paper_filter(device=None, *, clip=CLIP, blip=BLIP) -> tuple[ClipFilter, BlipCaptioner]:
    """DiffSegmenter's category filter with both its rules, and the captioner that it and `segment` share.

        keep, describe = paper_filter()
        ov.segment(pipe, photograph, voc_classes, recipe="paper", keep=keep, caption=describe)

    Each network is loaded once. `clip`, `blip`: hub ids or folders, as for their `load`.
    """
    captioner = BlipCaptioner.load(blip, device=device)
    return ClipFilter.load(clip, device=device, captioner=captioner), captioner
