"""From words to text embeddings, and from a word back to its tokens."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .pipelines import quiet
from .plumbing.english import does_no_harm, without_punctuation
from .text_file import PARTS, pack_parts, unpack_parts


@dataclass(frozen=True)
class Text:
    """An attribution text: `states` (token, dim), the names of its tokens, and where its words stand.

    `spans` holds, per token, the (start, end) of its characters in `source`; start and end token, and
    all tokens of a bare embedding, have an empty span. `entries`: those of a list of words and phrases, in
    order; () for a text that was one string.
    """

    states: Tensor
    tokens: tuple[str, ...]
    source: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    words: tuple[str, ...] = field(default=())
    entries: tuple[str, ...] = field(default=())

    def find(self, phrase: str) -> list[list[int]]:
        """The token indices of every occurrence of a word or phrase: whole words, in any case. Of a list, an
        entry is itself alone: the "dog" of ["hot dog", "dog"] is the second one. No word is found inside
        a token: no "dog" in a textual inversion's "<my-dog>".

        Raises KeyError, naming the words that are there.
        """
        pattern = _pattern(phrase)
        found = [self._tokens(*m.span()) for m in pattern.finditer(self.source)] if pattern else []
        entries = self._entry_spans() if found else []
        own = [self._tokens(*span) for entry, span in entries if pattern.fullmatch(entry)]
        found = [tokens for tokens in own or found if tokens]
        if found:
            return found
        if not self.spans:
            raise KeyError(f"No word '{phrase}': the text was given as embeddings, so ask by token number.")
        raise KeyError(f"No word '{phrase}' in the attribution text; it has {', '.join(self.words)}.")

    def places(self, phrases: Sequence[str]) -> list[list[int]]:
        """The token indices of the first occurrence of each phrase that is no part of a longer one: in "a hot
        dog and a dog" the place of "dog" is the last. Raises KeyError as `find` does."""
        found: dict[str, list[int]] = {}
        for phrase in sorted(phrases, key=len, reverse=True):
            taken = {i for tokens in found.values() for i in tokens}
            every = self.find(phrase)
            found[phrase] = next((tokens for tokens in every if taken.isdisjoint(tokens)), every[0])
        return [found[phrase] for phrase in phrases]

    def ing_after(self, place: Sequence[int]) -> list[int]:
        """The token indices of a word in -ing right behind a place: [] where none stands there."""
        match = re.compile(r"\s+(\w+ing)(?!\w)", re.IGNORECASE).match(self.source, self.spans[place[-1]][1])
        return self._tokens(*match.span(1)) if match else []

    def _tokens(self, begin: int, stop: int) -> list[int]:
        """The indices of the tokens between two characters of the source; none where one has more letters."""
        found = [i for i, (start, end) in enumerate(self.spans) if start < stop and end > begin]
        if not found:
            return []
        first, last = self.spans[found[0]][0], self.spans[found[-1]][1]
        beside = self.source[first:begin] + self.source[stop : max(last, stop)]
        return [] if any(map(str.isalpha, beside)) else found

    def _entry_spans(self) -> list[tuple[str, tuple[int, int]]]:
        """Each entry of a list, and where it stands in the source."""
        spans, at = [], 0
        for entry in self.entries:
            if (pattern := _pattern(entry)) and (match := pattern.search(self.source, at)):
                spans.append((entry, match.span()))
                at = match.end()
        return spans


def _pattern(phrase: str) -> re.Pattern | None:
    """What a word or phrase looks like in a source. A textual inversion of several vectors stands there as
    "<toy> <toy>_1 <toy>_2", since the tokenizer has a word for each of them."""
    words = list(map(re.escape, composed(phrase).split()))
    if not words:
        return None
    space, further = r"\s+", rf"(?:\s+{words[-1]}_\d+)*"
    return re.compile(rf"(?<!\w){space.join(words)}{further}(?!\w)", re.IGNORECASE)


def composed(text: str) -> str:
    """The text with each accented letter as one character, however it was typed: "é", not "e" and "´"."""
    return unicodedata.normalize("NFC", text)


def from_states(states: Tensor) -> Text:
    """A text that is already embedded: `states` (token, dim), its tokens named by their numbers."""
    if states.ndim != 2 or not states.shape[0]:
        raise ValueError(
            f"Text embeddings have the shape (token, dim), not {tuple(states.shape)}: "
            "of a batch, take one, such as embeds[0]."
        )
    return Text(states, tuple(str(i) for i in range(len(states))))


class TextEncoder:
    """The text side of a pipeline: its tokenizers and text encoders, without the UNet and the VAE.

        encoder = TextEncoder.of(pipe)
        text = encoder.encode("a kitten on grass")     # text.states (token, dim)

    Encoding is the pipeline's own `encode_prompt`, so LoRA, textual inversion and SDXL's two encoders
    (penultimate states side by side) count as they do when an image is made. Then the padding is
    dropped: start token, words, end token remain, as in OVAM (arXiv 2403.14291).
    """

    def __init__(self, **parts):
        # diffusers' documented way to encode prompts alone: the same pipeline without its models.
        with quiet():
            from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

            self.parts = {name: part for name, part in parts.items() if part is not None}
            nothing = {"vae": None, "unet": None, "scheduler": None}
            if parts.get("text_encoder_2") is not None:
                every = {name: parts.get(name) for name in PARTS}
                self.pipe = StableDiffusionXLPipeline(**every, **nothing, add_watermarker=False)
            else:
                nothing |= {"safety_checker": None, "feature_extractor": None}
                self.pipe = StableDiffusionPipeline(**self.parts, **nothing, requires_safety_checker=False)

    @classmethod
    def of(cls, pipe) -> TextEncoder | None:
        """The text side of `pipe` (shared, not copied); None when it has no text encoder."""
        parts = {name: getattr(pipe, name, None) for name in PARTS}
        has_encoder = parts["text_encoder"] is not None or parts["text_encoder_2"] is not None
        return cls(**parts) if has_encoder else None

    @property
    def nbytes(self) -> int:
        """Size of the text encoders' weights, in bytes."""
        encoders = (part for name, part in self.parts.items() if name.startswith("text_encoder"))
        return sum(w.numel() * w.element_size() for part in encoders for w in part.parameters())

    def encode(self, text: str | Sequence[str], *, padded: bool = False) -> Text:
        """Embed a text; a list of words or phrases is one text, its entries joined by spaces.

        `padded` keeps the padding that the UNet reads after the end token, as DAAM does.

        Raises ValueError for an empty text, a word that the tokenizer does not know, and a text longer
        than the encoder takes.
        """
        read = self.read(text)
        with torch.no_grad():
            states = self.pipe.encode_prompt(
                _as_source(text)[0],  # as `read` got it: what it gives is spread out already, for inversions
                device=self.pipe._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )[0][0]
        rest = len(states) - len(read.tokens)
        if not padded or not rest:
            return replace(read, states=states[: len(read.tokens)])
        names, spans = (*read.tokens, *["padding"] * rest), read.spans + ((0, 0),) * rest
        return replace(read, states=states, tokens=names, spans=spans)

    def read(self, text: str | Sequence[str]) -> Text:
        """The tokens and words of a text that is not embedded, its states (token, 0): the text encoder, a
        network, does not run. Raises ValueError as `encode` does."""
        source, words, entries = _as_source(text)
        source, ids, spans = self.split(source, words)
        if problem := self.too_long(source, ids, spans):
            raise ValueError(f"{problem} would fall off, so shorten it.")
        tokenizers = self.tokenizers
        for tokenizer in tokenizers[1:]:
            if len(tokenizer(source)["input_ids"]) != len(ids):
                raise ValueError(
                    "The pipeline's two tokenizers split this text differently: use other words."
                )
        special = tokenizers[0].convert_ids_to_tokens(ids)
        names = tuple(source[start:end] or special[i] for i, (start, end) in enumerate(spans))
        return Text(torch.empty(len(ids), 0), names, source, spans, words, entries)

    def split(
        self, source: str, words: Sequence[str] = ()
    ) -> tuple[str, list[int], tuple[tuple[int, int], ...]]:
        """The text as the tokenizer reads it, its token ids, and the (start, end) of each one's characters.

        `words`: those that must be known even if they are mere punctuation. Raises ValueError for a word that
        the tokenizer does not know.
        """
        tokenizers = self.tokenizers
        with quiet():  # the tokenizer warns of a text too long, which our callers report
            source = self.pipe.maybe_convert_prompt(source, tokenizers[0])
            encoding = tokenizers[0](source, return_offsets_mapping=True)
        ids, spans = encoding["input_ids"], tuple(map(tuple, encoding["offset_mapping"]))

        _refuse_unknown_words(source, ids, spans, tokenizers[0], words)
        return source, ids, spans

    def too_long(self, source: str, ids: Sequence[int], spans: Sequence[tuple[int, int]]) -> str:
        """The beginning of a message that names the words of a text that are too many; "" where all fit."""
        limit = min(tokenizer.model_max_length for tokenizer in self.tokenizers)
        if len(ids) <= limit:
            return ""
        first = spans[limit - 1][0]  # the last place is the end token's
        lost = source[source.rfind(" ", 0, first + 1) + 1 :]
        return f"The text has {len(ids)} tokens and the encoder takes {limit}: '{lost}'"

    @property
    def tokenizers(self) -> list:
        """One, or SDXL's two."""
        return [part for name, part in self.parts.items() if name.startswith("tokenizer")]

    def pack(self) -> dict[str, Tensor]:
        """All files of the text side as bytes, {relative path: uint8 (byte,)}: see `pack_parts`."""
        return pack_parts(self.parts)

    @classmethod
    def unpack(cls, files: dict[str, Tensor]) -> TextEncoder:
        """The inverse of `pack`: see `unpack_parts`."""
        return unpack_parts(files, cls)


def _as_source(text: str | Sequence[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The text as one string; its words, a list's entries or what stands between the spaces; the entries."""
    entries: list[str] = []
    if isinstance(text, str):
        text = composed(text)
        words = [without_punctuation(word) for word in text.split()]
    elif isinstance(text, Sequence) and all(isinstance(entry, str) for entry in text):
        words = entries = [composed(entry.strip()) for entry in text]
        text = " ".join(entries)
    else:
        raise TypeError(
            f"A text is a string, a list of words, or a tensor (token, dim), not {type(text).__name__}."
        )
    words = tuple(dict.fromkeys(word for word in words if word))
    if not words:
        raise ValueError("The attribution text is empty: give at least one word.")
    return text, words, tuple(entry for entry in entries if entry)


def _refuse_unknown_words(
    source: str, ids: list[int], spans: Sequence[tuple[int, int]], tokenizer, words: Sequence[str]
) -> None:
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:  # CLIP: one id for both, and any word has tokens
        return
    for i, (start, end) in zip(ids, spans, strict=True):
        word = source[start:end]
        if i == unknown and (word in words or not all(map(does_no_harm, word))):
            near = difflib.get_close_matches(word.lower(), tokenizer.get_vocab(), n=3)
            hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ": use another word."
            raise ValueError(f"The model's vocabulary has no word '{word}'{hint}")
