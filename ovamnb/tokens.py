"""Optimised tokens: vectors in a model's text space whose attention maps are masks of one class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from .plumbing import checks
from .published import PUBLISHED, read_published
from .text import Text, composed
from .token_file import read_tokens, write_tokens

BUNDLED_TOKENS = Path(__file__).parent / "assets" / "tokens.safetensors"
FIGURES = BUNDLED_TOKENS.with_suffix(".json")
"""The measured quality of the bundled tokens."""
SAMPLES = 32  # weights of each block in a fingerprint
ALIKE = 0.01  # relative: rounding to bfloat16 moves weights by 0.002, another model's by about 1


@dataclass(frozen=True, eq=False)
class Token:
    """A class vector in a model's text space whose attention map is a mask, and its background.

        token = ov.optimize_token(trace, mask, init="cat")
        other_trace.maps(token)["cat"]          # (h, w); the same for any image of the same model
        token.save("cat.safetensors")

    `class_` (dim,); `background` (token, dim): the other tokens of its softmax, a start token first (in OVAM,
    that one alone); None for a class vector without any, which takes the model's own start token. `model`,
    `fingerprint`: the name of its model, and some of the key weights of each block, by which to recognise the
    model. `losses`, `settings`: one for each evaluation of the optimisation, and how it was done.
    """

    word: str
    class_: Tensor
    background: Tensor | None = None
    model: str = ""
    fingerprint: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Sequence[float] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.word, str) or not self.word.strip():
            raise ValueError(f"A token has a word for its name, not {checks.shown(self.word)}.")
        object.__setattr__(self, "word", composed(self.word))
        for name, shape in (("class_", "(dim,)"), ("background", "(token, dim)")):
            if (value := getattr(self, name)) is not None or name == "class_":
                value = checks.tensor(f"A token's {name}", value, shape)
                checks.finite(f"The {name} of the token '{self.word}'", value, "optimise it anew")
                object.__setattr__(self, name, value if value.is_floating_point() else value.float())
        dim, background = tuple(self.class_.shape), self.background
        if len(dim) != 1 or not dim[0] or (background is not None and background.shape[1:] != dim):
            raise ValueError(
                f"A token's class vector has the shape (dim,), not {dim}, and its background (token, dim)."
            )
        if background is not None and not len(background):
            raise ValueError(
                "A token's background (token, dim) begins with a start token: give one, or None."
            )

    @property
    def start(self) -> Tensor | None:
        """(dim,): the start vector; None where there is no background."""
        return None if self.background is None else self.background[0]

    @property
    def states(self) -> Tensor:
        """(token, dim): the background, the class vector last. ValueError where there is no background."""
        if self.background is None:
            raise ValueError(f"The token '{self.word}' came without a start vector: only a trace can add it.")
        return torch.cat([self.background, self.class_[None]])

    def anchored(self, start: Tensor) -> Tensor:
        """x_class + (start − x_start): the class vector (dim,), moved to another `start` (dim,).

        Keys are linear in the states and a softmax ignores what all scores have in common, so all vectors may
        be moved together. This puts a token into a text that has a start token of its own.
        """
        start = start.to(self.class_)
        return self.class_ if self.start is None else self.class_ + start - self.start

    def require_model(self, key_weights: Mapping[str, Tensor]) -> None:
        """ValueError unless the token is of the model with these key weights (dim + 1, head·head_dim)."""
        dim = next(iter(key_weights.values())).shape[0] - 1
        if len(self.class_) != dim:
            raise ValueError(
                f"The token '{self.word}' has dim {len(self.class_)}, and this model's text states {dim}: "
                f"it was made for another model{self._of_model()}."
            )
        if not alike(self.fingerprint, fingerprint(key_weights)):
            raise ValueError(
                f"The token '{self.word}' was optimised for another model{self._of_model()} or other LoRA "
                "weights: its vectors mean nothing here, so optimise one for this model."
            )

    def _of_model(self) -> str:
        return f" ({self.model})" if self.model else ""

    def save(self, path: str | Path) -> None:
        """Write the token to one safetensors file; raises as `save_tokens` does."""
        save_tokens([self], path)

    @classmethod
    def load(cls, path: str | Path, word: str | None = None) -> Token:
        """Read a token; of a file with several, the one called `word`. See `load_tokens`."""
        if word is not None:
            checks.instance("word", word, str, "a token's name")
        tokens = load_tokens(path)
        if word is None and len(tokens) == 1:
            return next(iter(tokens.values()))
        if word not in tokens:
            wanted = "say which by `word=`" if word is None else f"none is called '{word}'"
            raise ValueError(f"'{path}' holds {len(tokens)} tokens, {wanted}: {', '.join(tokens)}.")
        return tokens[word]

    def __repr__(self) -> str:
        made = f", loss {self.losses[0]:.3f} → {min(self.losses):.3f}" if self.losses else ""
        return (
            f"Token('{self.word}', dim {len(self.class_)}{', for ' + self.model if self.model else ''}{made})"
        )


def average(tokens: Sequence[Token]) -> Token:
    """One token from several of the same word, each optimised on an annotation of its own.

    What is particular to one image shrinks in the mean, and what all share stays. The mean is taken after all
    are moved to the first one's start vector. Raises ValueError for tokens of several models.
    """
    tokens = checks.entries("tokens", tokens, "tokens")
    for token in tokens:
        checks.instance("Each of the tokens", token, Token, "a Token")
    if not tokens:
        raise ValueError("There is no token to average: give at least one.")
    first = tokens[0]
    for other in tokens[1:]:
        if len(other.class_) != len(first.class_) or not alike(other.fingerprint, first.fingerprint):
            raise ValueError("Tokens of different models cannot be averaged: optimise all on one model.")
    start = first.start
    mean = torch.stack([t.class_ if start is None else t.anchored(start) for t in tokens]).mean(dim=0)
    return replace(first, class_=mean, losses=(), settings={**first.settings, "average of": len(tokens)})


def as_text(tokens: Sequence[Token], start: Tensor | None) -> Text:
    """Tokens as one text: the first one's background, then their class vectors, moved to its start vector.

    `start` (dim,): the model's own start state, for tokens that came without a background.
    """
    background = tokens[0].background
    if background is None and start is None:
        raise ValueError(
            "This token came without a start vector, and the trace has no text encoder to give one: load it "
            "as `Trace.load(path, pipe)`."
        )
    background = start[None].to(tokens[0].class_) if background is None else background
    words = tuple(token.word for token in tokens)
    source, spans = "", [(0, 0)] * len(background)
    for word in words:
        spans.append((len(source), len(source) + len(word)))
        source += word + " "
    names = ("start", *["background"] * (len(background) - 1), *words)
    states = torch.cat([background, torch.stack([token.anchored(background[0]) for token in tokens])])
    return Text(states, names, source, tuple(spans), words, words)


def put_in(
    states: Tensor, places: Sequence[Sequence[int]], tokens: Sequence[Token | None]
) -> tuple[Tensor, list[list[int]]]:
    """Tokens in the places of their words in a text: states (token, dim) of the same number, and new places.

    A token is one vector. Copies of it in all sub-tokens of its word would compete with one another in the
    softmax, so it takes the first one's place, the others leave, what stands behind moves up, and the last
    state, padding, fills the end. None among `tokens` leaves a word as it is. The tokens are moved to the
    text's own start state (`Token.anchored`).
    """
    states, leaving = states.clone(), set()
    for place, token in zip(places, tokens, strict=True):
        if token is not None:
            states[place[0]] = token.anchored(states[0]).to(states)
            leaving.update(place[1:])
    kept = [i for i in range(len(states)) if i not in leaving]
    filled = torch.cat([states[kept], states[-1:].expand(len(leaving), -1)])
    return filled, [[kept.index(i) for i in place if i not in leaving] for place in places]


def fingerprint(key_weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some of each block's key weights, evenly spaced, (SAMPLES,) float32.

    Compared by `alike`, which allows for rounding: a hash would differ between the same model in float16 and
    in bfloat16.
    """
    return {
        name: weight.flatten()[:: max(1, weight.numel() // SAMPLES)][:SAMPLES].float().cpu().clone()
        for name, weight in key_weights.items()
    }


def alike(mine: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two fingerprints agree on all blocks that both have."""
    return all(
        mine[name].shape == other[name].shape
        and (mine[name] - other[name]).norm() <= ALIKE * mine[name].norm().clamp(min=1e-12)
        for name in mine.keys() & other.keys()
    )


def save_tokens(tokens: Iterable[Token], path: str | Path) -> None:
    """Write tokens of one model to one safetensors file, for `load_tokens`.

    Raises ValueError for two tokens of the same word and for tokens of several models, which one file cannot
    hold; FileNotFoundError for a folder that is not there, OSError where the disk is full.
    """
    tokens = checks.entries("tokens", [tokens] if isinstance(tokens, Token) else tokens, "tokens")
    for token in tokens:
        checks.instance("Each of the tokens", token, Token, "a Token")
    if not tokens:
        raise ValueError("There is no token to save: give at least one.")
    words = [token.word for token in tokens]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ValueError(
            f"Two of these tokens have the same word ({', '.join(twice)}), and a file keeps one of each: "
            "rename one by `dataclasses.replace(token, word=…)`, or save `ovamnb.tokens.average` of them."
        )
    for token in tokens[1:]:
        if len(token.class_) != len(tokens[0].class_) or not alike(token.fingerprint, tokens[0].fingerprint):
            raise ValueError(
                f"The tokens '{words[0]}' and '{token.word}' are of different models: save each model's in a "
                "file of its own."
            )
    write_tokens([{each.name: getattr(token, each.name) for each in fields(Token)} for token in tokens], path)


def load_tokens(path: str | Path = BUNDLED_TOKENS) -> dict[str, Token]:
    """{word: Token} from a file; without one, the bundled model's, one for each class it was trained on.

        ov.load_tokens()["cat"]
        ov.load_tokens("voc-sd15")["dog"]       # the OVAM authors' tokens for Stable Diffusion 1.5

    "voc-sd15" is fetched from the authors' repository, at a pinned commit and with its checksum, and kept.
    Besides what `save_tokens` wrote: any safetensors file of vectors (dim,) or pairs (2, dim), named by their
    words, and a NumPy file `.npy` of one such array, named by the file. Raises FileNotFoundError where there
    is no file or none can be fetched, and ValueError for one that is damaged, holds no tokens, or is a
    pickle.
    """
    read = read_published(str(path)) if str(path) in PUBLISHED else read_tokens(path)
    return {entry["word"]: Token(**entry) for entry in read}
