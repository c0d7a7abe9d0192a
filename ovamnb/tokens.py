"""Optimised tokens: a start and a class vector that ask a model for one thing, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .text import Text

FORMAT = "ovamnb tokens 1"
BUNDLED_TOKENS = Path(__file__).parent / "assets" / "tokens.safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
SAMPLES = 32  # weights of each block that make a fingerprint
ALIKE = 0.01  # relative: rounding to bfloat16 moves weights by 0.002, another model's by about 1


@dataclass(frozen=True, eq=False)
class Token:
    """A pair of vectors in a model's text space whose attention map is a mask. From `ov.optimize_token`.

        token = ov.optimize_token(trace, mask, init="cat")
        other_trace.maps(token)["cat"]          # (h, w); the same for any image of the same model
        token.save("cat.safetensors")

    `class_`, `start` (dim,): two tokens share each pixel's attention by a softmax, so only their difference
    counts; `start` is None for a token that came alone, and the model's own start token takes its place.
    `model`, `fingerprint`: the name of the model it belongs to, and some of the key weights of each of its
    blocks, by which another model is told. `losses`: one for each evaluation while it was optimised.
    """

    word: str
    class_: Tensor
    start: Tensor | None = None
    model: str = ""
    fingerprint: Mapping[str, Tensor] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.class_.shape)
        if len(shape) != 1 or (self.start is not None and self.start.shape != self.class_.shape):
            raise ValueError(f"A token's class and start vector have the shape (dim,), not {shape}.")

    @property
    def states(self) -> Tensor:
        """(2, dim): the start vector, then the class vector."""
        if self.start is None:
            raise ValueError("This token came without a start vector: see `Token.anchored`.")
        return torch.stack([self.start, self.class_])

    def anchored(self, start: Tensor) -> Tensor:
        """The class vector (dim,) that beside `start` (dim,) has the same map: x_class + (start − x_start).

        Keys are linear in the states and a softmax ignores what all scores have in common, so both vectors
        may be moved together. This puts a token into a text that has a start token of its own.
        """
        start = start.to(self.class_)
        return self.class_ if self.start is None else self.class_ + start - self.start

    def require_model(self, key_weights: Mapping[str, Tensor]) -> None:
        """ValueError unless the token belongs to the model with these key weights (dim + 1, head·dim)."""
        dim = next(iter(key_weights.values())).shape[0] - 1
        if len(self.class_) != dim:
            raise ValueError(
                f"The token '{self.word}' has dim {len(self.class_)}, and this model's text states have {dim}: "
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
        """Write the token to one safetensors file."""
        save_tokens([self], path)

    @classmethod
    def load(cls, path: str | Path, word: str | None = None) -> Token:
        """Read a token; of a file with several, the one called `word`. For what it reads, see `load_tokens`."""
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
    taken after all are moved to the first one's start vector. Raises ValueError for tokens of several models.
    """
    if not tokens:
        raise ValueError("There is no token to average: give at least one.")
    first = tokens[0]
    start = next((token.start for token in tokens if token.start is not None), None)
    for other in tokens[1:]:
        if len(other.class_) != len(first.class_) or not alike(other.fingerprint, first.fingerprint):
            raise ValueError("Tokens of different models cannot be averaged: optimise all on one model.")
    vectors = [token.class_ if start is None else token.anchored(start) for token in tokens]
    settings = {"average of": len(tokens), **first.settings}
    mean = torch.stack(vectors).mean(dim=0)
    return Token(first.word, mean, start, first.model, first.fingerprint, (), settings)


def as_text(tokens: Token | Sequence[Token], start: Tensor | None) -> Text:
    """Tokens as an attribution text: a start vector, then their class vectors, all moved to it.

    `start` (dim,): the model's own start state, for tokens that came without one.
    """
    tokens = [tokens] if isinstance(tokens, Token) else list(tokens)
    start = next((token.start for token in tokens if token.start is not None), start)
    if start is None:
        raise ValueError(
            "This token came without a start vector, and the trace has no text encoder to give one: load it "
            "as `Trace.load(path, pipe)`."
        )
    words = tuple(token.word for token in tokens)
    source, spans = "", [(0, 0)]
    for word in words:
        spans.append((len(source), len(source) + len(word)))
        source += word + " "
    states = torch.stack([start.to(tokens[0].class_), *(token.anchored(start) for token in tokens)])
    return Text(states, ("start", *words), source, tuple(spans), words)


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


def save_tokens(tokens: Iterable[Token], path: str | Path) -> None:
    """Write tokens of one model to one safetensors file, for `load_tokens`."""
    from safetensors.torch import save_file

    tokens = list(tokens)
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{Path(path).parent}' to save tokens in.")
    tensors, header = {}, {}
    for token in tokens:
        tensors[f"class/{token.word}"] = token.class_
        if token.start is not None:
            tensors[f"start/{token.word}"] = token.start
        header[token.word] = {
            "model": token.model,
            "settings": dict(token.settings),
            "losses": [round(loss, 5) for loss in token.losses],
        }
        tensors |= {f"fingerprint/{name}": values for name, values in token.fingerprint.items()}
    tensors = {name: value.detach().cpu().float().contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, path, metadata={"format": FORMAT, "tokens": json.dumps(header)})


def load_tokens(path: str | Path = BUNDLED_TOKENS) -> dict[str, Token]:
    """Word → Token, from a file; without one, the bundled model's, one for each class it was trained on.

        ov.load_tokens()["cat"]

    Besides what `save_tokens` wrote: any safetensors file of vectors (dim,) or pairs (2, dim), named by their
    words (as the OVAM authors' 20 VOC tokens for Stable Diffusion 1.5), and a NumPy file `.npy` of one such
    array, named by the file. Raises FileNotFoundError where there is no file, and ValueError for one that is
    damaged, holds no tokens, or is a pickle.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of tokens at '{path}'.")
    if path.suffix in PICKLES:
        raise ValueError(_why_no_pickle(path))
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ValueError(
                _why_no_pickle(path) if "pickle" in str(error) else f"'{path}' is damaged: {error}"
            ) from None
        return {path.stem: _bare(path.stem, torch.from_numpy(np.asarray(array)))}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file}
        if metadata.get("format") != FORMAT:
            return {
                name.replace("-", " "): _bare(name.replace("-", " "), value)
                for name, value in tensors.items()
            }
        marks = {
            k.removeprefix("fingerprint/"): v for k, v in tensors.items() if k.startswith("fingerprint/")
        }
        return {
            word: Token(
                word,
                tensors[f"class/{word}"],
                tensors.get(f"start/{word}"),
                said["model"],
                marks,
                tuple(said["losses"]),
                said["settings"],
            )
            for word, said in json.loads(metadata["tokens"]).items()
        }
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{path}' is damaged or holds no tokens: {error}") from None


def _bare(word: str, array: Tensor) -> Token:
    """A token from a vector (dim,) or a pair (2, dim) of unknown origin."""
    array = array.float()
    if array.ndim == 1 and len(array) > 1:
        return Token(word, array)
    if array.ndim == 2 and len(array) == 2:
        return Token(word, array[1], array[0])
    raise ValueError(
        f"A token is a vector (dim,) or a pair (2, dim), but '{word}' has the shape {tuple(array.shape)}."
    )


def _why_no_pickle(path: Path) -> str:
    return (
        f"'{path}' is a pickle, which can run any code when it is opened, so it is not read. Whoever trusts "
        "it can save its vectors anew: `safetensors.numpy.save_file({'cat': vector}, 'tokens.safetensors')`."
    )
