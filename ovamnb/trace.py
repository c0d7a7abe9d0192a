"""A recording: tensors that give maps of any text, without the UNet that made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dictionary import rank, shares_at
from .maps import AttentionMaps, block_map, combine, keys
from .pipelines import find_device
from .plumbing import checks
from .plumbing.asked import RankedWords, as_place
from .plumbing.lexicon import TEMPLATE, read_vocabulary
from .select import Block, Blocks, Grid, as_resolution, half_of, names_of, on_grid, positions, show_grid
from .text import Text, TextEncoder, from_states
from .tokens import Token, as_text
from .trace_file import read_trace, write_trace
from .unet import unet_of

Asked = str | Sequence[str] | Tensor | np.ndarray | Token | Sequence[Token]
"""What `Trace.maps` takes for a text."""


class Trace:
    """The recording of one generation. Comes from `ov.record` or `ov.Trace.load`.

        maps = trace.maps("a kitten on grass")       # any words, as often as you like
        trace.self_attention(32)                     # if it was recorded
        trace.save("cat.safetensors")

    `queries[half][name]` (step, image, h·w, head·head_dim), half one of "conditional", "unconditional";
    `key_weights[name]` (dim + 1, head·head_dim), its last row the bias; `affinities[h, w]` (image, h·w, h·w);
    `blocks[name]` grid, heads and scale; `steps` the numbers, `timesteps` the noise levels of the UNet
    passes that were kept, `passes` how many there were (0 where a file does not say); `model` its name;
    `image_size` (h, w) in pixels, None where a UNet ran alone.
    """

    def __init__(self):
        self.blocks: dict[str, Block] = {}
        self.queries: dict[str, dict[str, Tensor]] = {}
        self.key_weights: dict[str, Tensor] = {}
        self.affinities: dict[Grid, Tensor] = {}
        self.steps: tuple[int, ...] = ()
        self.timesteps: tuple[float, ...] = ()
        self.passes = 0
        self.images = 0
        self.model = ""
        self.image_size: Grid | None = None
        self._text_encoder: TextEncoder | dict[str, Tensor] | None = None

    def maps(
        self,
        text: Asked,
        *,
        image: int = 0,
        queries: str | None = None,
        blocks: Blocks | None = None,
        steps: int | Iterable[int] | None = None,
        softmax: bool = True,
    ) -> AttentionMaps:
        """One heat map per token of `text`, on the largest grid of the chosen blocks.

        `text`: a string; a list of words or phrases, taken as one text; embeddings (token, dim); or one or
            several `Token`s. All tokens of a text compete in one softmax, so that other words beside "cat"
            sharpen its map.
        `image`: which of the images generated together, prompt by prompt.
        `queries`: "conditional", "unconditional" or, the same where the image had a negative prompt,
            "negative"; None takes the conditional ones, where recorded.
        `blocks`: a part of a block's name ("up", "mid", "up_blocks.1"), the longer side of a grid (16), or
            several of these; None takes all but the mid block, as OVAM does.
        `steps`: numbers of UNet passes, from 0; None takes all that were recorded.
        `softmax=False` sums the scores instead, which have no common scale.

        Raises ValueError for anything that was not recorded, naming what was, and for a text that
        cannot be encoded; TypeError for arguments of a wrong kind.
        """
        checks.flag("softmax", softmax)
        values, text, count = self.block_maps(
            text, image=image, queries=queries, blocks=blocks, steps=steps, softmax=softmax
        )
        total = combine(values)
        if not total.isfinite().all():
            raise ValueError(
                "The maps are not finite: either the image itself failed (is it black?), or its queries "
                "exceed half precision, so record with dtype=torch.float32."
            )
        return AttentionMaps(total, text, count)

    def block_maps(
        self, text: Asked, *, steps: int | Iterable[int] | None = None, softmax: bool = True, **choices
    ) -> tuple[list[Tensor], Text, int]:
        """What `maps` sums: one (token, h, w) for each block on its own grid; the text; heads × steps, summed
        over blocks. `choices`: image, queries and blocks, as for `maps`."""
        names, half, image = self.select(**choices)
        kept = positions(steps, self.steps)
        text = self.text_of(text)

        values, count = [], 0
        for name in names:
            block = self.blocks[name]
            query = self.queries[half][name][kept, image]  # (step, h·w, head·head_dim)
            key = keys(text.states.to(query.device), self.key_weights[name])
            values.append(
                block_map(query, key, heads=block.heads, scale=block.scale, grid=block.grid, softmax=softmax)
            )
            count += len(query) * block.heads
        return values, text, count

    def words_at(
        self,
        place,
        vocabulary: Iterable[str] | None = None,
        *,
        image: int = 0,
        queries: str | None = None,
        blocks: Blocks | None = None,
        steps: int | Iterable[int] | None = None,
        together: bool = True,
        contrast: bool = False,
        template: str = TEMPLATE,
        count: int = 20,
    ) -> RankedWords:
        """The words of a whole dictionary by the attention that a place of the picture gives them.

            trace.words_at((64, 40), blocks=16)   # of 20 000 words the first 20: best on this grid
            trace.words_at(mask, ["cat", "kitten", "dog"])

        `place`: a pixel (y, x) of the image (see `image_size`), counted from the top left, or a bool mask
            (h, w) of any size: the mean over its pixels.
        `vocabulary`: words of your own; None takes all that the tokenizer knows, or 20 000 for CLIP's.
        `image`, `queries`, `blocks`, `steps`: as for `maps`, whose shares these are.
        `together`: all words compete in one softmax. False asks each alone, so that its share is the one in
            `maps(text)`, text being `template` with the word in the place of {}.
        `contrast` ranks by what is more here than in the whole picture (see `dictionary.rank`): slower.

        Raises ValueError as `maps` does, for a place outside the image or empty and for words that are
        unknown or given twice; TypeError for arguments of a wrong kind.
        """
        contrast, together = checks.flag("contrast", contrast), checks.flag("together", together)
        count = checks.whole("count", count, 1)
        names, half, image = self.select(blocks=blocks, queries=queries, image=image)
        kept, places = positions(steps, self.steps), [as_place(place, self.image_size)]
        places += [torch.ones_like(places[0])] if contrast else []
        words = read_vocabulary(self._reader(), vocabulary, template)
        self._check_dim(words.groups[0].own)
        layers = [(self.queries[half][n][kept, image], self.key_weights[n], self.blocks[n]) for n in names]
        shares = checks.finite("The attention", shares_at(layers, places, words, together))
        return rank(shares[0], shares[1] if contrast else None, words.words, count)

    def self_attention(self, resolution: int | Grid, *, image: int = 0) -> Tensor:
        """Self-attention on one grid, averaged over heads, layers and steps: (h·w, h·w), rows sum to 1.

        `resolution`: the longer side of the grid, or (h, w). Row i holds what pixel i attends to, pixels
        counted row by row. Raises ValueError for a resolution that was not recorded, naming those that
        were.
        """
        self._require_data()
        resolution = as_resolution(resolution)
        for grid, affinity in self.affinities.items():
            if on_grid(resolution, grid):
                return affinity[self._image(image)]
        have = ", ".join(map(show_grid, self.affinities)) or "none"
        raise ValueError(
            f"No self-attention at resolution {resolution} was recorded (there is: {have}): name it in "
            f"`ov.record(pipe, self_attention=({resolution},))`."
        )

    def to(self, device: str | torch.device) -> Trace:
        """The trace on another device, where its maps are computed then; itself where it is there already.

            trace = trace.to("cuda")
            maps = trace.maps("a kitten on grass")["kitten"].cpu()

        Raises ValueError for a device that this machine does not have.
        """
        device = torch.empty(0, device=find_device(device)).device  # with its number, as tensors call it
        if self.device in (device, None):
            return self
        moved = copy(self)
        moved.queries = {
            half: {name: query.to(device) for name, query in blocks.items()}
            for half, blocks in self.queries.items()
        }
        moved.key_weights = {name: weight.to(device) for name, weight in self.key_weights.items()}
        moved.affinities = {grid: affinity.to(device) for grid, affinity in self.affinities.items()}
        return moved

    @property
    def device(self) -> torch.device | None:
        """Where the recorded tensors lie; None for an empty trace."""
        return next((tensor.device for tensor in self._tensors()), None)

    def _tensors(self) -> Iterator[Tensor]:
        yield from (query for blocks in self.queries.values() for query in blocks.values())
        yield from (*self.key_weights.values(), *self.affinities.values())

    def save(self, path: str | Path, *, text_encoder: bool | None = None) -> None:
        """Write the trace to one safetensors file.

        `text_encoder`: include it, so that the loaded trace reads words by itself; None does so where it is
        small (the bundled model's), since Stable Diffusion's takes 250 MB and more.

        Raises ValueError for an empty trace and for a path that is there and no regular file;
        FileNotFoundError for a folder that is not there, OSError where the disk is full: an older file stays.
        """
        if text_encoder is not None:
            checks.flag("text_encoder", text_encoder)
        self._require_data()
        write_trace(self, path, text_encoder)

    @classmethod
    def load(cls, path: str | Path, pipe=None) -> Trace:
        """Read a saved trace; its maps need no UNet.

            trace = ov.Trace.load("cat.safetensors")

        `pipe` gives its text encoder to traces saved without one. Raises FileNotFoundError where there
        is no file, and ValueError for a file that is damaged or no trace.
        """
        if pipe is not None:
            unet_of(pipe)  # raises for the name of a pipeline
        trace = cls()
        read_trace(trace, path)
        if pipe is not None:
            trace.text_encoder = TextEncoder.of(pipe)
        return trace

    @property
    def text_encoder(self) -> TextEncoder | None:
        """What turns words into embeddings; None for a trace that was saved without it."""
        if isinstance(self._text_encoder, dict):  # as loaded: unpacked only when it is needed
            self._text_encoder = TextEncoder.unpack(self._text_encoder)
        return self._text_encoder

    @text_encoder.setter
    def text_encoder(self, encoder: TextEncoder | None) -> None:
        self._text_encoder = encoder

    @property
    def nbytes(self) -> int:
        """Memory that the recorded tensors take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    def __repr__(self) -> str:
        if not self.steps:
            return "Trace(empty)"
        grids = [block.grid for block in self.blocks.values()]
        heads = sorted({block.heads for block in self.blocks.values()})
        lines = [
            f"Trace of {self.images} image(s), {len(self.steps)} step(s), {self.nbytes / 1e6:.1f} MB",
            "  blocks: " + ", ".join(f"{grids.count(g)} on {show_grid(g)}" for g in dict.fromkeys(grids)),
            f"  heads: {', '.join(map(str, heads))}; queries: {', '.join(self.queries)}",
            f"  self-attention: {', '.join(map(show_grid, self.affinities)) or 'none'}",
        ]
        return "\n".join(lines)

    def select(
        self, *, blocks: Blocks | None = None, queries: str | None = None, image: int = 0
    ) -> tuple[list[str], str, int]:
        """The names of blocks, the half and the image that these choices mean, checked as in `maps`."""
        self._require_data()
        grids = {name: block.grid for name, block in self.blocks.items()}
        return names_of(blocks, grids), half_of(queries, self.queries), self._image(image)

    def _require_data(self) -> None:
        if not self.steps:
            raise ValueError(
                "This trace is empty: generate an image inside `with ov.record(pipe) as trace:` (with the "
                "steps you asked for among its passes), and ask after it."
            )

    def _image(self, image: int) -> int:
        image = checks.whole("image", image, why="counts the images of a trace from 0")
        if not 0 <= image < self.images:
            raise ValueError(f"There is no image {image}: the trace has {self.images}, counted from 0.")
        return image

    def text_of(self, text: Asked) -> Text:
        """An attribution text as its states (token, dim) in this model's text space: see `maps`."""
        self._require_data()
        tokens = [text] if isinstance(text, Token) else text
        if isinstance(tokens, list | tuple) and any(isinstance(entry, Token) for entry in tokens):
            return self._embed_tokens(tokens)
        if isinstance(text, Tensor | np.ndarray):
            text = from_states(checks.tensor("text", text, "(token, dim)"))
        else:
            text = self._reader().encode(text)
        self._check_dim(text.states)
        return text

    def _reader(self) -> TextEncoder:
        if self._text_encoder is None:
            raise ValueError(
                "This trace has no text encoder to read words with: load it as `Trace.load(path, pipe)`, or "
                "ask `maps` with an embedding tensor (token, dim)."
            )
        return self.text_encoder

    def _check_dim(self, states: Tensor) -> None:
        dim = next(iter(self.key_weights.values())).shape[0] - 1
        if states.shape[-1] != dim:
            raise ValueError(f"The embeddings have dim {states.shape[-1]}, this model's text states {dim}.")

    def _embed_tokens(self, tokens: Sequence[Token]) -> Text:
        if not all(isinstance(token, Token) for token in tokens):
            raise TypeError("A text is made of words or of optimised tokens, not of both.")
        for token in tokens:
            token.require_model(self.key_weights)
        encoder = self.text_encoder if tokens[0].background is None else None
        return as_text(tokens, encoder.encode(tokens[0].word).states[0] if encoder else None)
