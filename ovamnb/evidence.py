"""What an image shows: how much a text helps the UNet to denoise it; and the filters and captioners that
DiffSegmenter uses before it segments.

A filter is any function (image, classes) → the classes to keep; a captioner any function (image, start of a
text) → its continuation. There are two of each: CLIP and BLIP for photographs, and one made of the diffusion
model itself, which needs no other network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .images import beside, check_prompts, encode_image, encode_prompts, noised, prepare, unet_pass
from .pipelines import find_device
from .plumbing import checks
from .plumbing.english import mentions, with_article
from .plumbing.rgb import as_rgb

CLIP = "openai/clip-vit-large-patch14"
CLIP_REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"
BLIP = "Salesforce/blip-image-captioning-large"  # the paper's
BLIP_REVISION = "2227ac38c9f16105cb0412e7cab4759978a8fd90"
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
    ):
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
            return cls(model.to(device), processor, **chosen)
        from transformers import CLIPModel, CLIPProcessor

        revision = revision if name == CLIP else None
        model = CLIPModel.from_pretrained(name, revision=revision, use_safetensors=True)
        processor = CLIPProcessor.from_pretrained(name, revision=revision)
        return cls(model.to(device).eval(), processor, **options)

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


class BlipCaptioner:
    """An image's caption by BLIP (Li et al., ICML 2022), through transformers.

    describe = BlipCaptioner.load()
    describe(photograph)                              # "a cat sitting on a sofa"
    describe(photograph, "a photograph of a cat")     # "sitting on a sofa"
    ov.segment(pipe, photograph, classes, caption=describe)

    What was said of the last image is kept, so that several methods hear of it once.
    """

    def __init__(self, model, processor, *, longest: int = 30):
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
        return cls(model.to(find_device(device)).eval(), processor)

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
