"""Optimised tokens: vectors that ask a model for one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from . import checks
from .text import Text

SAMPLES = 32  # weights of each block that make a fingerprint
ALIKE = 0.01  # relative: rounding to bfloat16 moves weights by 0.002, another model's by about 1


@dataclass(frozen=True, eq=False)
class Token:
    """A class vector in a model's text space whose attention map is a mask, and the background it needs.

        token = ov.optimize_token(trace, mask, init="cat")
        other_trace.maps(token)["cat"]          # (h, w); the same for any image of the same model
        token.save("cat.safetensors")

    `class_` (dim,); `background` (token, dim): what it shares each pixel's attention with, a start token
    first. In OVAM that is all; None for a class vector that came alone, which takes the model's own start
    token. `model`, `fingerprint`: the name of the model it belongs to, and some of the key weights of each of
    its blocks, by which another model is told. `losses`: one for each evaluation while it was optimised.
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
        """The class vector (dim,) as it is beside another `start` (dim,): x_class + (start − x_start).

        Keys are linear in the states and a softmax ignores what all scores have in common, so all vectors may
        be moved together. This puts a token into a text that has a start token of its own.
        """
        start = start.to(self.class_)
        return self.class_ if self.start is None else self.class_ + start - self.start

    def require_model(self, key_weights: Mapping[str, Tensor]) -> None:
        """ValueError unless the token belongs to the model with these key weights (dim + 1, head·dim)."""
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
        from .storage import save_tokens

        save_tokens([self], path)

    @classmethod
    def load(cls, path: str | Path, word: str | None = None) -> Token:
        """Read a token; of a file with several, the one called `word`. See `load_tokens`."""
        from .storage import load_tokens

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

    What each learned of its one image differs and shrinks in the mean; what they share stays. The mean is
    taken after all are moved to the first one's background. Raises ValueError for tokens of several models.
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
    """Tokens as an attribution text: the first one's background, then their class vectors, all moved to it.

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
    return Text(states, names, source, tuple(spans), words)


def fingerprint(key_weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some of each block's key weights, evenly spaced, (SAMPLES,) float32.

    Compared by `alike`, which forgives rounding: a digest would tell the same model in float16 and in
    bfloat16 apart.
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
