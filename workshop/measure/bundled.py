"""Measures a bundled model: `python -m workshop.measure.bundled runs/bundled/pipeline` (or `make evaluate`).

(a) generation   share of generated pictures that show what the prompt named: the sprite itself (`recognise`),
                 and by the opinion of a segmenter (`oracle`); no seed is chosen, and a sheet of 56 pictures
                 shows them
(b) maps         mIoU of the class word's map on held-out rendered scenes, noised at several steps, of every
                 block
(c) selection    in scenes of two objects, share of words whose map is denser on their own object
(d) held out     b and c for words that stood in no caption
(e) control      b for a word whose object is not there (c would say one half: one of two is denser)
(f) sharpening   b's maps completed by self-attention, and after a dense CRF; also on generated pictures

Which block and which threshold to use is decided on validation scenes and never on the test scenes of the
report. The maps come from the public API, as a reader would get them; (f) with the settings that
`python -m workshop.make.segment_recipe` left beside the model, if it ran before. Figures go to `figures.json`
and into the model card, README.md, of the folder; with `--install` the measured folder then replaces the
bundled model.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.plumbing.command import BEGINS_ANEW, WRONG, ends

from ..make.card import SHEET, write_card
from ..train.oracle import TRAINED, load_oracle
from .generation import generation_rates, save_sheet
from .sharpening import measure_refinement
from .word_maps import SELECTIONS, measure_maps


@ends("python -m workshop.measure.bundled", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workshop.measure.bundled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", default="bundled", help="a pipeline folder or known name (default %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=300, help="test scenes for b–e (default %(default)s)")
    parser.add_argument(
        "--images", type=int, default=112, help="generated images for a (default %(default)s)"
    )
    parser.add_argument(
        "--oracle", type=Path, default=TRAINED, help="its weights (default: the repository's)"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--install", action="store_true", help="make the measured model the bundled one")
    given = parser.parse_args(arguments)

    from ovamnb.pipelines import BUNDLED, load_pipeline

    with ends(parser.prog, WRONG):
        pipe = load_pipeline(given.model, device=given.device)
    pipe.set_progress_bar_config(disable=True)
    figures = measure_maps(pipe, test=given.scenes)
    for what, rows in (("all scenes", figures["maps"]), ("one object", figures["maps_one_object"])):
        for name, row in rows.items():
            scores = (f"{kind} {row[kind]:.3f}" for kind in ("validation", *SELECTIONS) if kind in row)
            print(f"{what:<12}{name:<54}" + "  ".join(scores))
    for name, value in figures["selection"].items():
        print(f"{'two objects':<12}{name:<54}{value:.3f}")
    folder = BUNDLED if given.model == "bundled" else Path(given.model)
    if given.images:
        oracle = load_oracle(given.oracle, device=given.device)
        figures["generation"], drawn = generation_rates(pipe, oracle, images=given.images)
        save_sheet(drawn[: 2 * len(CONCEPTS)], 2, folder / SHEET)
        figures["refinement"] = measure_refinement(pipe, oracle)
        print(json.dumps({key: figures[key] for key in ("generation", "refinement")}, indent=2))
    path = folder / "figures.json"
    if path.exists():  # what `segment_recipe` measured stays
        figures = json.loads(path.read_text()) | figures
    path.write_text(json.dumps(figures, indent=2) + "\n")
    write_card(folder)
    if given.install and folder != BUNDLED:
        shutil.rmtree(BUNDLED, ignore_errors=True)
        shutil.copytree(folder, BUNDLED)
        print(f"installed {folder}")


if __name__ == "__main__":
    main()
