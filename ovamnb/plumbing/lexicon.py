"""A dictionary read by a text encoder: every word in a short text of its own, embedded once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .asked import as_words, in_template

TEMPLATE = "a photograph of {}"
BUNDLED = Path(__file__).parents[1] / "assets" / "bundled" / "tokenizer" / "tokenizer.json"
TEXTS = 256  # encoded together
MOST = 8  # vocabularies that are kept for each text encoder
SAME = 1e-3  # of the largest state: tokens that differ by less are one, since batches round differently
_READ: WeakKeyDictionary = WeakKeyDictionary()  # encoder → {words: (the first's states, vocabulary)}


@dataclass(frozen=True, eq=False)
class Group:
    """Texts with the same number of tokens. `words` (word,) their places in the vocabulary; `common`
    (token, dim): tokens that all these texts share, the first `before` of them ahead of the word; `own`
    (word, slot, dim): the others, of which the first `inside` are the word itself."""

    words: Tensor
    common: Tensor
    own: Tensor
    before: int
    inside: int


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words, each embedded in a short text of its own: see `read_vocabulary`."""

    words: tuple[str, ...]
    groups: tuple[Group, ...]


def read_vocabulary(encoder, words: Iterable[str] | None = None, template: str = TEMPLATE) -> Vocabulary:
    """Each word embedded in a text of its own; kept for the next call as long as the encoder lives.

    `words`: None takes all that a whole-word tokenizer knows, and the bundled model's 20 000 for CLIP's,
    which spells any word; of these, what is too long is left out. Raises ValueError for words that are
    unknown, too long or given twice and for a template without one {}, TypeError for no list of words.
    """
    around = in_template(template)
    names = _own_words(encoder) if words is None else as_words(words)
    network = next(part for name, part in encoder.parts.items() if name.startswith("text_encoder"))
    kept = _READ.setdefault(network, {})
    probe = encoder.encode(names[0].join(around)).states.cpu()
    if (names, template) not in kept or not torch.equal(kept[names, template][0], probe):  # a LoRA was loaded
        if len(kept) >= MOST:
            kept.pop(next(iter(kept)))
        kept[names, template] = probe, _embed(encoder, names, around, skip=words is None)
    return kept[names, template][1]


def _own_words(encoder) -> tuple[str, ...]:
    tokenizer = encoder.tokenizers[0]
    if tokenizer.unk_token_id in (None, tokenizer.eos_token_id):  # CLIP's: it has parts of words, not words
        vocabulary = json.loads(BUNDLED.read_text("utf-8"))["model"]["vocab"]
    else:
        vocabulary = tokenizer.get_vocab()
    return tuple(word for word in sorted(vocabulary, key=vocabulary.get) if word.isalpha())


def _embed(encoder, names: Sequence[str], around: Sequence[str], *, skip: bool) -> Vocabulary:
    """`skip` leaves out words whose text is too long; else ValueError, as `TextEncoder.encode` raises it."""
    texts = sources = [name.join(around) for name in names]
    limit = min(tokenizer.model_max_length for tokenizer in encoder.tokenizers)
    if skip:
        spans = encoder.tokenizers[0](texts, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    else:
        read = [encoder.read(text) for text in texts]
        # A textual inversion of several vectors is spread out there, and will be again where it is encoded.
        sources, spans = [text.source for text in read], [text.spans for text in read]
    alike: dict[tuple[int, ...], list[int]] = {}  # (tokens, first and last of the word) → words
    kept = [i for i, place in enumerate(spans) if len(place) <= limit]
    for new, i in enumerate(kept):
        begin, stop = len(around[0]), len(sources[i]) - len(around[1])
        mine = [k for k, (start, end) in enumerate(spans[i]) if start < stop and end > begin]
        if not mine:
            raise ValueError(f"The tokenizer reads nothing in the word {names[i]!r}: leave it out.")
        alike.setdefault((len(spans[i]), mine[0], mine[-1]), []).append(new)
    groups = []
    for (length, first, last), numbers in alike.items():
        states = _states(encoder, [texts[kept[new]] for new in numbers], length)  # (word, token, dim)
        same = (states - states[:1]).abs().amax(dim=(0, 2)) <= SAME * states.abs().max()
        same[first : last + 1] = False
        inside = list(range(first, last + 1))
        slots = inside + [k for k in range(length) if not same[k] and k not in inside]
        before = int(same[:first].sum())
        groups.append(Group(torch.tensor(numbers), states[0, same], states[:, slots], before, len(inside)))
    return Vocabulary(tuple(names[i] for i in kept), tuple(groups))


@torch.no_grad()
def _states(encoder, texts: Sequence[str], length: int) -> Tensor:
    """(text, token, dim), on the CPU, of texts with this many tokens, as each has them alone. Without
    padding, which is ten times the work, where what stands behind a token changes nothing, as in CLIP."""

    def encode(encoder, texts: Sequence[str]) -> Tensor:
        states = encoder.pipe.encode_prompt(
            list(texts),
            device=encoder.pipe._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )[0]
        return states[:, :length].cpu()

    short = dict(encoder.parts)
    for name in short:
        if name.startswith("tokenizer"):
            short[name] = deepcopy(short[name])
            short[name].model_max_length = length
    brief, whole = type(encoder)(**short), encode(encoder, texts[:1])
    near = (encode(brief, texts[:1]) - whole).abs().max() <= SAME * whole.abs().max()
    used = brief if near else encoder
    return torch.cat([encode(used, texts[i : i + TEXTS]) for i in range(0, len(texts), TEXTS)])
