"""The sheets of emoji: whole, packed from their packages, in the wheel; a style that nothing trains on."""

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from setuptools import Distribution

from ovamnb.emoji import CONCEPTS, scene, words
from ovamnb.emoji.sprites import (
    CODE_POINTS,
    NATURAL_COLOUR,
    PAINTABLE,
    SHEET,
    STYLES,
    TILE,
    UNSEEN,
    UNSEEN_SHEET,
    sprite,
)
from ovamnb.emoji.streams import STREAMS, stream_rng
from workshop.make import sprite_sheet
from workshop.train.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent


def ink(tile):
    """(h, w) bool: opaque and nearly black, as OpenMoji's outlines."""
    return (tile[..., 3] > 200) & (tile[..., :3].max(-1) < 60)


class TestUnseenStyle:
    def test_each_concept_has_a_drawing_of_its_own(self):
        for path, styles in ((SHEET, STYLES), (UNSEEN_SHEET, UNSEEN)):
            assert Image.open(path).size == (TILE * len(CONCEPTS), TILE * len(styles))
        tiles = [sprite(concept, style) for concept in CONCEPTS for style in (*STYLES, *UNSEEN)]
        assert len({tile.tobytes() for tile in tiles}) == len(tiles)
        for concept in CONCEPTS:
            opaque = sprite(concept, "openmoji")[..., 3] > 127
            assert 0.1 < opaque.mean() < 0.8 and opaque[8:-8, 8:-8].any(), concept
            assert ink(sprite(concept, "openmoji")).sum() > 0.1 * opaque.sum(), f"{concept}: its outline"

    def test_the_outline_is_part_of_the_object_and_stays_black_when_painted(self):
        for concept in PAINTABLE:
            plain, blue = sprite(concept, "openmoji"), sprite(concept, "openmoji", "blue")
            assert (ink(blue) == ink(plain)).mean() > 0.995 and (blue != plain).any()
        picture = scene(3, concepts=["cat"], ground_name="snow", style="openmoji")
        dark = (picture.image.max(-1) < 40).nonzero()
        assert len(dark[0]) > 100 and picture.mask("cat")[dark].mean() > 0.97

    def test_nothing_that_trains_draws_in_it(self):
        assert not {*UNSEEN} & {*STYLES, *words.STYLE_PREFIXES}
        composed = [
            scene,
            lambda rng: scene(rng, telling=words.Telling()),
            *(s.compose for s in STAGES.values()),
        ]
        for compose in composed:
            pictures = [compose(stream_rng(0, name, i)) for name in STREAMS for i in range(20)]
            assert {thing.style for picture in pictures for thing in picture.objects} == {*STYLES}
        with pytest.raises(ValueError, match="No caption tells of 'openmoji': leave out `telling`, or"):
            scene(0, style="openmoji", telling=words.Telling())

    def test_no_colour_is_claimed_that_was_read_off_other_drawings(self):
        for concept in NATURAL_COLOUR:
            for style, colour in (("google", NATURAL_COLOUR[concept]), ("openmoji", None)):
                (thing,) = scene(0, concepts=[concept], style=style).objects
                assert (thing.style, thing.colour) == (style, colour)


def test_scenes_of_the_three_styles_stay_what_they_were():
    """Hashed are the tiles and where they lie; not the pictures, since a ground is made of sines, whose last
    bit another processor may round otherwise."""
    digest = hashlib.sha256(np.asarray(Image.open(SHEET).convert("RGBA")).tobytes())
    for seed in range(200):
        digest.update(scene(seed).labels.tobytes())
    assert digest.hexdigest()[:16] == "c9529e16237e55ac"


@pytest.fixture
def node_modules(tmp_path, monkeypatch):
    """The four packages, with the tiles of the shipped sheets in them; an "SVG" names its concept."""
    for style in STYLES:
        for concept, code in CODE_POINTS.items():
            path = tmp_path / sprite_sheet.SOURCES[style].format(code)
            path.parent.mkdir(parents=True, exist_ok=True)
            exact = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
            Image.fromarray(sprite(concept, style)).save(path, **exact)
    (folder := tmp_path / "openmoji/color/svg").mkdir(parents=True)
    for concept, code in CODE_POINTS.items():
        text = f'<svg viewBox="0 0 72 72">{concept}</svg>'
        (folder / f"{code.upper().removesuffix('-FE0F')}.svg").write_text(text)

    def drawn(svg, side):
        box, concept = re.fullmatch(r'<svg viewBox="([\d ]+)">([\w ]+)</svg>', svg).groups()
        tile = Image.fromarray(sprite(concept, "openmoji"))
        if box == "3 3 66 66":
            return tile.resize((side, side))
        board = Image.new("RGBA", (side, side))
        board.paste(tile.resize((66, 66)), (3, 3))
        return board

    monkeypatch.setattr(sprite_sheet, "drawn", drawn)
    return tmp_path


class TestPacking:
    def test_a_sheet_comes_out_as_it_is_shipped(self, node_modules):
        for shipped, styles in ((SHEET, STYLES), (UNSEEN_SHEET, UNSEEN)):
            packed = node_modules / "new" / shipped.name
            sprite_sheet.pack(node_modules, packed, styles)
            assert Image.open(packed).tobytes() == Image.open(shipped).tobytes()

    def test_nothing_of_a_drawing_is_cut_off(self, node_modules, monkeypatch):
        monkeypatch.setattr(sprite_sheet, "drawn", lambda svg, side: Image.new("RGBA", (side, side), "black"))
        with pytest.raises(
            ValueError, match=r"1F408.svg' reaches into the margin of 3: set a smaller MARGIN"
        ):
            sprite_sheet.drawing(node_modules, "openmoji", CODE_POINTS["cat"])
        (node_modules / "openmoji/color/svg/1F408.svg").write_text('<svg viewBox="0 0 80 80">cat</svg>')
        with pytest.raises(
            ValueError, match=r"1F408.svg' has no viewBox=\"0 0 72 72\": set BOARD and MARGIN"
        ):
            sprite_sheet.drawing(node_modules, "openmoji", CODE_POINTS["cat"])

    def test_what_draws_svg_is_named_where_it_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "resvg_py", None)
        with pytest.raises(ModuleNotFoundError, match="`pip install resvg-py` draws them"):
            sprite_sheet.drawn("<svg/>", 64)


def test_the_wheel_carries_the_sheets_and_their_licences(monkeypatch):
    monkeypatch.chdir(ROOT)
    wheel = Distribution()
    wheel.parse_config_files()
    build = wheel.get_command_obj("build_py")
    build.ensure_finalized()
    build.manifest_files = {}  # what pyproject.toml names, and no list that an earlier build has left
    carried = {*map(Path, build.find_data_files("ovamnb", "ovamnb"))}
    folder = SHEET.parent.relative_to(ROOT)
    assert {folder / name for name in (SHEET.name, UNSEEN_SHEET.name, "LICENSES.md")} <= carried
    licences = (SHEET.parent / "LICENSES.md").read_text("utf-8")
    for needed in (*STYLES, *UNSEEN, UNSEEN_SHEET.name, "CC BY-SA 4.0", "OpenMoji", "What was changed"):
        assert needed in licences
    assert "CC BY-SA 4.0" in (ROOT / "README.md").read_text("utf-8").splitlines()[-1]
