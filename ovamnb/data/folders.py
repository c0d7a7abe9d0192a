"""A folder of images and label maps; and the layout of the OVAM authors' sets of generated images."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .base import ALL, SPLITS, Data, Example, split_by_name
from .on_disk import IGNORED_WIDE, read_image, read_labels, read_lines, read_text, require
from .pascal import VOC_CLASSES

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FOLDER = (
    "a folder of images has labels/NAME.png (0 for the background, k for the k-th class, 255 for what does "
    "not count, or 65535 in 16 bits), images/NAME.jpg or .png of the same size, and classes.txt with the "
    "name of a class in each line. Put it into data/folder or give its place as root."
)
OVAM = (
    "the OVAM authors give their sets, with their experiments, at http://www-vpu.eps.uam.es/publications/ovam/"
    "ovam_experiment_with_dataset.zip, or on request (https://github.com/vpulab/ovam). Put annotations/, "
    "images/ and the CSV file into data/{name} or give their place as root."
)


class Folder(Data):
    """Images and label maps of your own.

        data = load_data("folder", split="test", root="my_pictures")

    The folder holds images/NAME.jpg (or .png, .jpeg, .webp, .bmp), labels/NAME.png, of one channel or with a
    palette (h, w), 0 for the background, k for the k-th class, 255 for what does not count; and classes.txt,
    one class a line. More than 254 classes, up to 65534, need PNGs of 16 bits, in which 65535 does not count.
    Optional are:

    - validation.txt and test.txt, one name a line; without them one picture in four, by name, is for
      validation;
    - prompts.csv with the columns name, prompt, seed; the last two may be empty. A picture with a prompt
      needs no image: the model generates it, from seed 0 if none is given. A picture with both an image and
      a seed is generated again and must come out the same.

    Raises FileNotFoundError for what is missing, and ValueError for what is damaged or contradictory.
    """

    truth = "label maps in a folder"

    def __init__(self, root: Path | None, split: str) -> None:
        self.root = require(root or Path("data") / "folder", FOLDER)
        self.classes = read_lines(self.root / "classes.txt", FOLDER)
        if not 0 < len(self.classes) < IGNORED_WIDE:
            most = IGNORED_WIDE - 1
            raise ValueError(
                f"'{self.root / 'classes.txt'}' has {len(self.classes)} classes, not 1 to {most}."
            )
        require(self.root / "labels", FOLDER)
        self.prompts = self._prompts()
        self.files: dict[str, Path] = {}
        for path in sorted((self.root / "images").glob("[!.]*")):
            if path.suffix.lower() in IMAGES and self.files.setdefault(path.stem, path) != path:
                raise ValueError(f"'{path}' has the name of '{self.files[path.stem].name}': leave one.")
        self.names = self._names(split)
        for index, name in enumerate(self.names):
            require(self.source(index), f"each image needs its labels. {FOLDER}")
            if name not in self.files and not self.prompts.get(name, ("", None))[0]:
                raise FileNotFoundError(
                    f"'{self.source(index)}' has no image '{self.root / 'images' / name}.jpg' (or .png), "
                    "nor a prompt in prompts.csv: add either."
                )

    def source(self, index: int) -> Path:
        return self.root / "labels" / f"{self.names[index]}.png"

    def read(self, index: int) -> Example:
        name = self.names[index]
        image = read_image(self.files[name], FOLDER) if name in self.files else None
        prompt, seed = self.prompts.get(name, ("", None))
        if image is None and seed is None:
            seed = 0
        labels = read_labels(self.source(index), FOLDER, len(self.classes))
        return Example(name, labels, image, prompt or None, seed)

    def _names(self, split: str) -> tuple[str, ...]:
        lists = {which: self.root / f"{which}.txt" for which in ("validation", "test")}
        if not any(path.exists() for path in lists.values()):
            # An image without labels counts, so that its missing labels are reported.
            labels = {path.stem for path in (self.root / "labels").glob("[!.]*.png")}
            return tuple(split_by_name([*(labels | self.files.keys())], split))
        both = "of validation.txt and test.txt, give both or neither."
        names = {which: read_lines(path, both) for which, path in lists.items()}
        shared = sorted({*names["validation"]} & {*names["test"]})
        if shared:
            raise ValueError(
                f"'{shared[0]}' stands in '{lists['validation']}' and in '{lists['test']}': what thresholds "
                "are chosen on is not tested on."
            )
        return names[split]

    def _prompts(self) -> dict[str, tuple[str, int | None]]:
        path = self.root / "prompts.csv"
        prompts: dict[str, tuple[str, int | None]] = {}
        for name, prompt, seed in _rows(path, ("name", "prompt", "seed"), FOLDER) if path.exists() else ():
            if name in prompts:
                raise ValueError(f"'{path}' names '{name}' more than once: leave one.")
            if seed and not seed.isdecimal():
                raise ValueError(f"'{path}': the seed of '{name}' is no whole number: '{seed}'.")
            prompts[name] = prompt, int(seed) if seed else None
        return prompts


class OVAMSim(Data):
    """VOC-sim of the OVAM paper: 490 generated images of "A photograph of a {class}", one class in each.

        data = load_data("ovam-voc-sim", split="all", root="evaluation/ovam/voc_sim")

    In the layout of the authors' evaluation: annotations/CLASS_MODEL_seedSEED_….png, where what is not black
    is the object; images/CLASS_MODEL_seedSEED.png, or no folder images/ at all: the model generates them, and
    nobody can tell whether it draws what was annotated; and voc_sim.csv (classname, prompt, seed) in the
    folder, or in one of the two around it; without it the prompt is the above. CLASS is one of VOC's 20, with
    spaces or hyphens. Labels are (h, w), all but the object's class is 0, and every pixel counts.
    The split "all" is every picture, which the paper reports; of "validation" and "test" the first is one
    picture in four, by name.

    As the authors do, a class is asked for by the text of the prompt, with "a" before a vowel, too, and found
    at its last word: a dining table at "table", a potted plant at "plant". Their seeds are of a GPU's random
    numbers, CUDA's or Apple's.

    Raises FileNotFoundError, with where to get it, for what is missing, and ValueError for a file name of
    another form, and for what is damaged.
    """

    classes = VOC_CLASSES
    truth = "annotated by people, one class an image"
    splits = (*SPLITS, ALL)
    ask = "A photograph of a {name}"
    words: Mapping[str, str] = {name: name.split(" ")[-1] for name in VOC_CLASSES if " " in name}
    noise = ("cuda", "mps", "cpu")
    like = "ovam-voc-sim"  # the paper's values for this set apply
    even_missing = True  # an image on which nothing is annotated counts: whatever is found there is wrong
    usual, earlier = "ovam-voc-sim", "ovam-sim"
    form = "CLASS_MODEL_seedSEED_….png"
    pattern = re.compile(r"(?P<word>[^_]+)_(?P<model>[^_]+)_seed(?P<seed>\d+)(_.*)?")
    image = "{word}_{model}_seed{seed}"
    table, columns = "voc_sim.csv", ("prompt", "classname", "seed")  # the prompt, and what it is found by:
    key: tuple[str, ...] = ("word", "seed")  # these parts of the annotation's name
    template = "A photograph of a {word}"

    def __init__(self, root: Path | None, split: str) -> None:
        self.remedy = OVAM.format(name=self.usual)
        places = [Path("data") / self.usual, Path("data") / self.earlier]
        self.root = require(root or next(filter(Path.exists, places), places[0]), self.remedy)
        self.drawn = (self.root / "images").is_dir()
        self.files: dict[str, Path] = {}
        self.said: dict[str, dict[str, str]] = {}
        for path in sorted(require(self.root / "annotations", self.remedy).glob("[!.]*.png")):
            match = self.pattern.fullmatch(path.stem)
            if not match:
                raise ValueError(f"'{path}' is not named like {self.form}, so its class is unknown.")
            said = match.groupdict()
            name = self.image.format(**said, plain=said["model"].replace("-", ""))
            said["word"] = said["word"].replace("-", " ")
            if said["word"] not in VOC_CLASSES:
                known = ", ".join(VOC_CLASSES)
                raise ValueError(f"'{path}' shows a '{said['word']}', none of VOC's classes: {known}.")
            if self.files.setdefault(name, path) != path:
                raise ValueError(f"'{path}' and '{self.files[name].name}' annotate one image: leave one.")
            self.said[name] = said
        self.prompts = self._prompts()
        self.names = tuple(sorted(self.files) if split == ALL else split_by_name([*self.files], split))

    def source(self, index: int) -> Path:
        return self.files[self.names[index]]

    def read(self, index: int) -> Example:
        name, path = self.names[index], self.source(index)
        label = VOC_CLASSES.index(self.said[name]["word"]) + 1
        labels = np.asarray(read_image(path, self.remedy)).any(-1).astype(np.uint8) * np.uint8(label)
        image = None
        if self.drawn:  # a missing one is an error: generated again, it could differ
            image = read_image(self.root / "images" / f"{name}.png", f"'{path}' annotates it. {self.remedy}")
        seed = int(self.said[name]["seed"])
        return Example(name, labels, image, self.prompts[name], seed, named=(label,))

    def _prompts(self) -> dict[str, str]:
        """The name of the image → its prompt."""
        # In the authors' experiments the table lies two folders up; whoever copies the set puts it nearer.
        around = [self.root / self.table, *(up / self.table for up in self.root.absolute().parents[:2])]
        path = next(filter(Path.exists, around), around[0])
        if self.template and not path.exists():
            return {name: self.template.format(**said) for name, said in self.said.items()}
        known = {
            tuple(value.replace("-", " ") for value in key): prompt
            for prompt, *key in _rows(path, self.columns, self.remedy)
        }
        keys = {name: tuple(said[part] for part in self.key) for name, said in self.said.items()}
        for name, key in keys.items():
            if key not in known:
                raise ValueError(f"'{path}' has no prompt for '{self.files[name]}': add its row.")
        return {name: known[key] for name, key in keys.items()}


class OVAMCap(OVAMSim):
    """COCO-cap of the OVAM paper: 707 images generated from COCO's captions, with one of VOC's classes
    annotated in each.

        data = load_data("ovam-coco-cap", split="all", root="evaluation/ovam/coco_captions")

    As OVAMSim, but for annotations/CLASS_MODEL_caption_ID_seed_SEED.png;
    images/CLASS_MODEL_captionID_seedSEED.png, MODEL without its hyphens; and coco_captions_sampled.csv
    (caption_id, caption, …), which must be there. Whatever else an image shows counts as background, as in
    the paper. A class is asked for by its bare name, whether the caption names it or not, and found at its
    last word.
    """

    ask = "{name}"
    like = "ovam-coco-cap"
    usual, earlier = "ovam-coco-cap", "ovam-cap"
    form = "CLASS_MODEL_caption_ID_seed_SEED.png"
    pattern = re.compile(
        r"(?P<word>[^_]+)_(?P<model>[^_]+)_[a-z]*_?(?P<caption>\d+)_[a-z]*_?(?P<seed>\d+)(_.*)?"
    )
    image = "{word}_{plain}_caption{caption}_seed{seed}"
    table, columns = "coco_captions_sampled.csv", ("caption", "caption_id")
    key = ("caption",)
    template = ""


def _rows(path: Path, columns: tuple[str, ...], what: str) -> Iterator[list[str]]:
    """These columns of a CSV file, row by row; ValueError where one is missing."""
    rows = csv.DictReader(io.StringIO(read_text(path, what)))
    for column in columns:
        if column not in (rows.fieldnames or ()):
            raise ValueError(f"'{path}' has no column '{column}': it needs {', '.join(columns)}.")
    for row in rows:
        yield [(row[column] or "").strip() for column in columns]
