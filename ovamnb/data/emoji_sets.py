"""The emoji data sets: rendered scenes with exact masks, and pictures that the bundled model generates,
labelled by a segmenter.

A generated picture is not stored: its prompt and seed give it again on any machine, without a visible
difference. Stored are its label map, since the segmenter is the workshop's (`python -m
workshop.make.label_sets`), and a thumbnail, to notice a model that generates another picture.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..emoji.sprites import CONCEPTS, UNSEEN
from ..emoji.streams import of_concept
from .base import Data, Example
from .on_disk import IGNORED

STEPS, GUIDANCE = 25, 4.0
"""The denoising steps and the guidance scale of the generated pictures."""
FOLDER = Path(__file__).parents[1] / "assets" / "sets"
RENDERED = {"validation": 2, "test": 3, "downstream": 15}
"""Scenes of each concept: they show one, two and three objects in turn."""


class Rendered(Data):
    """emoji-real: rendered scenes with exact masks, without a prompt, as photographs are.

    data = Rendered(None, "test")
    data[0].image, data[0].labels
    """

    classes = CONCEPTS
    truth = "exact, since the scenes are rendered"
    style: str | None = None

    def __init__(self, root: Path | None, split: str) -> None:
        self.split = self.stream = split
        self.names = tuple(
            f"{c.replace(' ', '-')}-{n}" for c in CONCEPTS for n in range(1, RENDERED[split] + 1)
        )

    def read(self, index: int) -> Example:
        concept, number = divmod(index, RENDERED[self.split])
        turn, objects = divmod(number, 3)
        # A seed for each turn of one, two, three: earlier scenes need not be rendered again.
        [picture] = of_concept(self.stream, CONCEPTS[concept], 1, objects + 1, seed=turn, style=self.style)
        return Example(self.names[index], picture.labels, Image.fromarray(picture.image))


class Pool(Rendered):
    """420 more scenes of the same kind, to train other networks on; nothing else uses their stream."""

    def __init__(self) -> None:
        super().__init__(None, "downstream")


class Unseen(Rendered):
    """emoji-unseen: as emoji-real, but every object is drawn by other artists, in a style (OpenMoji's: flat
    colours in black outlines) of which nothing that was trained here has seen a pixel.

        data = Unseen(None, "test")

    Emoji-real's sprites are known by heart, in other sizes and on other grounds: the diffusion model, its
    CLIP, its tokens and the oracles all learned from the same three drawings of each class. Here the class is
    the same and the drawing is not, as with photographs. Names, numbers of objects, grounds and colours are
    those of emoji-real; the scenes are others, of streams of their own.
    """

    truth = "exact, since the scenes are rendered; in an art style that nothing here was trained on"
    style = UNSEEN[0]

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split)
        self.stream = f"unseen-{split}"


class Drawn(Data):
    """Pictures that the bundled model generates, from prompts and seeds in `kind`.json; labels in `kind`.png,
    one tile below the other."""

    kind: str
    classes = CONCEPTS
    steps, guidance = STEPS, GUIDANCE

    def __init__(self, root: Path | None, split: str) -> None:
        folder = root or FOLDER
        index = json.loads((folder / f"{self.kind}.json").read_text())
        self.rows = [(i, row) for i, row in enumerate(index["pictures"]) if row["split"] == split]
        self.names = tuple(row["name"] for _, row in self.rows)
        tiles = np.asarray(Image.open(folder / f"{self.kind}.png"))
        self.labels = tiles.reshape(len(index["pictures"]), -1, tiles.shape[1])  # (picture, h, w)
        self.truth = f"{self.judged(index['judge'])}; {self.left_out(len(index['dropped'][split]))}"

    def read(self, index: int) -> Example:
        tile, row = self.rows[index]
        named = tuple(CONCEPTS.index(name) + 1 for name in row["named"])
        return Example(row["name"], self.labels[tile], prompt=row["prompt"], seed=row["seed"], named=named)

    @staticmethod
    def judged(trust: dict[str, float]) -> str:
        """Whose labels these are, and how far to trust them, in words."""
        return (
            f"a segmenter's that annotated for no token; its own mIoU is {trust['rendered']:.3f} on held-out "
            f"rendered scenes ({trust['with borders']:.3f} outlines included), "
            f"{trust['reconstructed']:.3f} on the same after the model's VAE"
        )

    def left_out(self, dropped: int) -> str:
        """What does not count and why, in words: counted, from the label maps."""
        examples = [self.read(i) for i in range(len(self.names))]
        pixels = sum(example.labels.size for example in examples)
        outlines = sum(int((example.labels == IGNORED).sum()) for example in examples)
        unnamed = sum(int(np.isin(example.labels, example.unnamed()).sum()) for example in examples)
        missing = sum(len(set(example.named) - {*example.present()}) for example in examples)
        return (
            f"of {len(examples) + dropped} pictures {dropped} are out, since they show none of the classes "
            f"that the prompt names; {missing} named classes are missing in the others and not asked for; "
            f"{outlines / pixels:.1%} of the pixels are outlines, which do not count; {unnamed / pixels:.1%} "
            "show a class that the prompt does not name"
        )

    def seen(self, index: int) -> np.ndarray:
        return np.array(self.rows[index][1]["thumbnail"], float)


class Simple(Drawn):
    """emoji-sim: "a photograph of a cat", as VOC-sim is made in the OVAM paper, also with a second class."""

    kind = "emoji-sim"


class Captioned(Drawn):
    """emoji-cap: free captions of one or two objects, as COCO-cap in the OVAM paper; they may name a class by
    another word."""

    kind, like = "emoji-cap", "ovam-coco-cap"
