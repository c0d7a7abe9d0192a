"""Label maps for pictures of which only the classes are known: DiffSegmenter's weakly supervised setting.

    python -m ovamnb.evaluation.pseudo_masks --limit 10        # the bundled model on rendered scenes: seconds
    python -m ovamnb.evaluation.pseudo_masks --data voc --root data/VOCdevkit --model sd15 --out runs/masks
    accelerate launch -m ovamnb.evaluation.pseudo_masks --data voc --model sd15 --list train_aug.txt --out …

The pictures are those of the training list, the split "validation". Their classes come from VOC's image-level
labels and, in other sets, from the truth. The background score is given, or chosen on held-out pictures of
the other split. Where the training list has a truth, the masks are scored against it, the background counted
as a class (70.5 on VOC, says the paper) and not. Beside it stands the best background score of all, the
"oracle": only who knows that truth could have chosen it, as the paper does. An interrupted run goes on where
it stopped.

OUT/SegmentationClass/NAME.png                 the label maps, with VOC's palette; 16 bits beyond 254 classes
OUT/ImageSets/Segmentation/train.txt           their names
OUT/classes.txt                                the class of label k in line k
OUT/settings.json, OUT/background.json         what the maps depend on; a run with other settings is refused
OUT/counts/NAME.json, OUT/held-out/NAME.json   what was counted of each picture
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zlib import crc32

import torch
from accelerate import PartialState
from PIL import Image
from tqdm.auto import tqdm

from ..data.base import Data
from ..data.on_disk import dtype_of, ignored_in, label_image, write_png
from ..data.pascal import Pascal
from ..plumbing import checks
from ..plumbing.command import WRONG, ends, positive
from ..plumbing.files import clear_partials, write_text
from ..recipe import SEGMENT_RECIPES, SegmentRecipe
from ..segmentation import Captioner, segment
from ..select import evenly
from ..text import TextEncoder
from ..tokens import Token
from .arguments import arguments_of, both_splits, start, tokens_if_needed
from .background import KEYS, Tally, chosen, label_map, swept, table
from .store import model_settings, parts_hash, read_counts, tokens_hash, write, write_settings

MASKS, LIST = "SegmentationClass", Path("ImageSets", "Segmentation", "train.txt")
LEFTOVER = 60.0
"""Seconds after which a half-written file counts as abandoned."""


@dataclass(frozen=True)
class PseudoMasks:
    """How pictures are labelled: model, recipe, captions, and the tokens to ask with instead of words.

    masks = PseudoMasks(pipe, SEGMENT_RECIPES["paper"], caption=BlipCaptioner.load())
    masks.count(held_out, range(100), folder / "held-out")
    masks.label(data, range(len(data)), folder, background=0.5)

    Under `accelerate launch` each process takes its part of the pictures.
    """

    pipe: object
    recipe: SegmentRecipe
    caption: str | Captioner = ""
    tokens: Mapping[str, Token] = field(default_factory=dict)
    seed: int = 0
    quiet: bool = False

    def settings(self, data: Data) -> dict:
        """All that a label map depends on beside the picture and the background score."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if "background" not in name}
        return {
            "data": type(data).__name__,
            "classes": list(data.classes),
            "recipe": json.loads(json.dumps(recipe)),
            "caption": self.caption if isinstance(self.caption, str) else type(self.caption).__name__,
            "tokens": tokens_hash(self.tokens.values()),
            "seed": self.seed,
            "parts": parts_hash(self.pipe),
            **model_settings(self.pipe),
        }

    def require_words(self, data: Data) -> None:
        """ValueError for a class that the text encoder does not know: now, and not at its first picture."""
        encoder = TextEncoder.of(self.pipe)
        for name in data.classes:
            if name not in self.tokens:
                encoder.read(name)

    def count(self, data: Data, indices: Sequence[int], folder: Path) -> None:
        """What every background score finds in each picture, into folder/NAME.json."""
        for index in self.mine(indices, "held out"):
            self.look(data, index, folder / f"{data.names[index]}.json")

    def label(self, data: Data, indices: Sequence[int], folder: Path, background: float) -> None:
        """A label map of each picture, and what every background score finds where there is a truth."""
        for index in self.mine(indices, "pseudo masks"):
            mask = folder / MASKS / f"{data.names[index]}.png"
            self.look(data, index, folder / "counts" / f"{data.names[index]}.json", mask, background)

    def mine(self, indices: Sequence[int], name: str) -> Iterable[int]:
        """Those that fall to this process."""
        state = PartialState()
        own = indices[state.process_index :: state.num_processes]
        return tqdm(own, desc=name, disable=self.quiet or not own or not state.is_main_process)

    def look(
        self, data: Data, index: int, counts: Path, mask: Path | None = None, background: float = 0.5
    ) -> None:
        """Segment a picture, unless the same was done with the same classes. The counts are written last:
        where they are, there is a mask."""
        picture, asked = picture_of(data, index), data.shown(index)
        mark = crc32(repr((asked, picture.size)).encode() + picture.tobytes())
        if read_counts(counts, KEYS).get("mark") == mark and (mask is None or mask.exists()):
            return
        scores = torch.zeros(0, picture.height, picture.width)
        if asked:
            names = [data.classes[label - 1] for label in asked]
            queries = [self.tokens.get(name, name) for name in names]
            options = {"caption": self.caption, "recipe": self.recipe, "seed": self.seed}
            scores = segment(self.pipe, picture, queries, **options).scores
        if mask is not None:
            labels = label_map(scores, asked, background).numpy().astype(dtype_of(len(data.classes)))
            write_png(label_image(labels), mask)
        found = {"at": [], "labels": [], "both": [], "either": []}
        if data.labelled(index):
            truth = torch.tensor(data[index].labels, dtype=torch.int64)
            found = swept(scores, asked, truth, ignored_in(len(data.classes)), background)
        write(counts, {"name": data.names[index], "mark": mark, **found})


def picture_of(data: Data, index: int) -> Image.Image:
    """A picture; ValueError where the model would have to draw it."""
    if (picture := data.picture(index)) is None:
        raise ValueError(
            f"'{data.names[index]}' is no picture but a prompt: give a data set of pictures, or label what "
            "the model draws by `python -m ovamnb.synthesize`."
        )
    return picture


def parser_of() -> argparse.ArgumentParser:
    usual = "runs/pseudo-masks/DATA"
    parser = arguments_of("evaluation.pseudo_masks", __doc__, "emoji-real", usual, tables=False)
    add = parser.add_argument
    add("--list", type=Path, help="for VOC: a file of other names, such as the 10,582 of train_aug")
    own = "(default: own for the bundled model, paper for others)"
    add("--recipe", choices=(*SEGMENT_RECIPES, "own"), help=f"the paper's, or the model's own {own}")
    blip = "(default: none for the bundled model, blip for others)"
    add("--caption", choices=("blip", "none"), help=f"what continues each class's prompt {blip}")
    add("--background", type=float, help="the background score (default: chosen on held-out pictures)")
    choose = "held-out pictures that it is chosen on, at most (default %(default)s)"
    add("--choose-on", type=positive, default=100, help=choose)
    return parser


def pictures_for(given: argparse.Namespace) -> tuple[Data, list[int], Data, list[int]]:
    """The training list and which of it to label; the other split and which of it to choose on: pictures with
    a truth that are not on the list. Raises as `both_splits`, and ValueError for what the rest of the
    arguments cannot be."""
    if given.background is not None:
        checks.number("--background", given.background, 0, 1, why="is a score")
    data, other = both_splits(given).values()
    if given.list and not isinstance(data, Pascal):
        raise ValueError("--list names photographs in VOC's folder: give --data voc or context with it.")
    data = data.listed(given.list) if given.list else data
    picture_of(data, 0)
    ours, listed = evenly(len(data), given.limit), {*data.names}
    free = [k for k, name in enumerate(other.names) if name not in listed and other.labelled(k)]
    if not free or given.background is not None:
        return data, list(ours), other, []
    most = min(given.limit or given.choose_on, given.choose_on)
    return data, list(ours), other, [free[k] for k in evenly(len(free), most)]


@ends("python -m ovamnb.evaluation.pseudo_masks")
def main(arguments: list[str] | None = None) -> None:
    parser = parser_of()
    given = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):  # mistakes are found before the model is loaded
        data, ours, other, free = pictures_for(given)
        tokens = tokens_if_needed(given, False)
    with ends(parser.prog, WRONG):
        state, pipe = start(given)
    plain = given.model == "bundled"
    name = given.recipe or ("own" if plain else "paper")
    recipe = SegmentRecipe.of(pipe) if name == "own" else SEGMENT_RECIPES[name]
    caption = ""
    if (given.caption or ("none" if plain else "blip")) == "blip":
        from ..evidence import BlipCaptioner

        caption = BlipCaptioner.load(device=pipe.device)
    masks = PseudoMasks(pipe, recipe, caption, tokens, given.seed)
    masks.require_words(data)
    out = given.out or Path("runs", "pseudo-masks", given.data)
    write_settings(out, masks.settings(data))
    if state.is_main_process:
        clear_partials(out, older=LEFTOVER)

    masks.count(other, free, out / "held-out")
    state.wait_for_everyone()
    counted = (out / "held-out" / f"{other.names[k]}.json" for k in free)
    background, how = chosen(Tally.of(counted, len(data.classes)), given.background, recipe.background)
    write_settings(out, {"background": background}, "background.json")
    masks.label(data, ours, out, background)
    state.wait_for_everyone()
    if not state.is_main_process:
        return
    names = [data.names[k] for k in ours]
    write_text(out / LIST, "".join(f"{name}\n" for name in names), make_folder=True)
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in data.classes))
    tally = Tally.of((out / "counts" / f"{name}.json" for name in names), len(data.classes))
    said = "BLIP's captions" if caption else "no captions"
    print(
        f"{len(names)} label maps in '{out / MASKS}', by the {name} recipe with {said}, of the classes alone"
    )
    print(table(tally, background, how))


if __name__ == "__main__":
    main()
