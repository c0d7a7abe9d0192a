"""Small folders in the layout of the OVAM authors' sets, for tests that read them or run a command on them.

    root = sim(tmp_path / "voc_sim", rendered(SHOWN))                   # a picture of each class, exact masks
    root = cap(tmp_path / "coco_captions", drawn(pipe, ("cat", "potted plant"), each=2))

`drawn` pictures are what `pipe` draws again from their prompts and seeds, so that an evaluation can be run on
them from end to end; their masks are a stand-in for a person's. `rendered` ones cost nothing and have exact
masks, but no model draws them. Neither shows a dining table: there is no emoji of one; `tokens` has a token
for it all the same.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ovamnb as ov
from ovamnb.data.folders import OVAMSim
from ovamnb.data.pascal import VOC_CLASSES
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.emoji.streams import of_concept

SHOWN = tuple(name for name in VOC_CLASSES if name in CONCEPTS)
PAINT = (0, 0, 128)  # what is not black is the object
GROUNDS = ("on grass", "on sand", "in the snow")


@dataclass(frozen=True)
class Picture:
    """One annotated picture: `mask` (h, w) bool; `number` is that of its caption."""

    name: str
    prompt: str
    seed: int
    image: Image.Image
    mask: np.ndarray
    number: int


def rendered(names: Sequence[str] = SHOWN, each: int = 1) -> list[Picture]:
    """`each` rendered scenes of every class, of one object, with exact masks."""
    found = []
    for name in names:
        for i, scene in enumerate(of_concept("validation", name, each)):
            image, number = Image.fromarray(scene.image), len(found)
            found.append(Picture(name, prompt_of(name), seed_of(i), image, scene.mask(name), number))
    return found


def drawn(pipe, names: Sequence[str], each: int = 1, *, captions: bool = False) -> list[Picture]:
    """`each` pictures of every class as `pipe` draws them with the steps and guidance of the authors' sets,
    of their plain prompt or, with `captions`, of a free one; the mask is where the class's completed map is
    high."""
    found = []
    for name in names:
        for i in range(each):
            number, seed = len(found), seed_of(i)
            prompt = f"a {name} {GROUNDS[number % len(GROUNDS)]}" if captions else prompt_of(name)
            with ov.record(pipe, self_attention=(32,)) as trace:
                [image] = pipe(
                    prompt,
                    num_inference_steps=OVAMSim.steps,
                    guidance_scale=OVAMSim.guidance,
                    generator=torch.Generator().manual_seed(seed),
                ).images
            heat = ov.complete(trace.maps(f"a photograph of a {name}")[name], trace.self_attention(32))
            mask = ov.binarize(ov.resize(heat, image), threshold=0.4).numpy().astype(bool)
            found.append(Picture(name, prompt, seed, image, mask, number))
    return found


def tokens(path: Path) -> Path:
    """A file with a token for each of VOC's classes, for the bundled model: its own, and the chair's for the
    dining table, which no picture shows, but which an evaluation wants a token for."""
    own = ov.load_tokens()
    ov.save_tokens([own[name] for name in SHOWN] + [replace(own["chair"], word="dining table")], path)
    return path


def prompt_of(name: str) -> str:
    return f"A photograph of a {name}"  # "a aeroplane", too


def seed_of(i: int) -> int:
    """As long as the authors' are: up to 2³² − 1."""
    return 4_136_900_885 + i


def sim(root: Path, pictures: Iterable[Picture], *, table: Path | None = None) -> Path:
    """A folder as VOC-sim lies in the authors' experiments: class names with hyphens. `table`: where to write
    voc_sim.csv; without it there is none."""
    rows = []
    for picture in pictures:
        name = f"{picture.name.replace(' ', '-')}_sd15_seed{picture.seed}"
        _put(root, f"{name}_annotation", name, picture)
        rows.append((picture.name.replace(" ", "-"), picture.prompt, picture.seed))
    if table:
        _write(table, ("classname", "prompt", "seed"), rows)
    return root


def cap(root: Path, pictures: Iterable[Picture], *, table: Path | None = None) -> Path:
    """A folder as COCO-cap lies there: class names with spaces, and the model in two spellings. `table`:
    where to write coco_captions_sampled.csv, beside the folder where it is not said."""
    rows = []
    for picture in pictures:
        number = 300_000 + picture.number
        annotation = f"{picture.name}_sd-15_caption_{number}_seed_{picture.seed}"
        _put(root, annotation, f"{picture.name}_sd15_caption{number}_seed{picture.seed}", picture)
        included = picture.name in picture.prompt
        rows.append((number, picture.prompt, picture.name, picture.name, included, number, ""))
    columns = ("caption_id", "caption", "category_name", "categories", "word_included", "image_id", "url")
    _write(table or root.parent / "coco_captions_sampled.csv", columns, rows)
    return root


def _put(root: Path, annotation: str, image: str, picture: Picture) -> None:
    painted = np.where(picture.mask[..., None], np.array(PAINT, np.uint8), np.uint8(0))
    for folder, name, content in (
        ("annotations", annotation, Image.fromarray(painted)),
        ("images", image, picture.image),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        content.save(root / folder / f"{name}.png")


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
