"""Packs the sprite sheets from four npm packages: `python -m workshop.make.sprite_sheet node_modules`.

    npm install @lobehub/fluent-emoji-3d emoji-datasource-google emoji-datasource-twitter openmoji
    pip install resvg-py

Only needed to add a concept: the packed sheets are part of the repository (see assets/sprites/LICENSES.md).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ovamnb.emoji.sprites import CODE_POINTS, SHEET, STYLES, TILE, UNSEEN, UNSEEN_SHEET

SOURCES = {
    "fluent": "@lobehub/fluent-emoji-3d/assets/{}.webp",
    "google": "emoji-datasource-google/img/google/64/{}.png",
    "twitter": "emoji-datasource-twitter/img/twitter/64/{}.png",
    "openmoji": "openmoji/color/svg/{}.svg",
}
# Units of OpenMoji's SVG. With the empty margin, objects would be smaller in scenes than in other styles.
BOARD, MARGIN = 72, 3


def pack(node_modules: Path, sheet: Path, styles: Sequence[str]) -> None:
    """Writes one row of tiles per style and one column per concept, as a PNG with alpha.

    Raises FileNotFoundError for a package that lacks a drawing, and as `drawing`.
    """
    picture = Image.new("RGBA", (TILE * len(CODE_POINTS), TILE * len(styles)))
    for row, style in enumerate(styles):
        for column, code in enumerate(CODE_POINTS.values()):
            picture.paste(drawing(node_modules, style, code), (column * TILE, row * TILE))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    picture.save(sheet, optimize=True)


def drawing(node_modules: Path, style: str, code: str) -> Image.Image:
    """A code point's tile of a style.

    Raises ModuleNotFoundError, with the remedy, without what draws SVG, and ValueError for a drawing on
    another board, or one that reaches into its margin.
    """
    if style not in UNSEEN:
        tile = Image.open(node_modules / SOURCES[style].format(code)).convert("RGBA")
        return tile.resize((TILE, TILE), Image.Resampling.LANCZOS)
    path = node_modules / SOURCES[style].format(code.upper().removesuffix("-FE0F"))
    svg, used = path.read_text("utf-8"), BOARD - 2 * MARGIN
    if (whole := f'viewBox="0 0 {BOARD} {BOARD}"') not in svg:
        raise ValueError(f"'{path}' has no {whole}: set BOARD and MARGIN to what OpenMoji uses today.")
    edge = drawn(svg, BOARD)
    edge.paste((0, 0, 0, 0), (MARGIN, MARGIN, BOARD - MARGIN, BOARD - MARGIN))
    if edge.getbbox():
        raise ValueError(
            f"'{path}' reaches into the margin of {MARGIN}: set a smaller MARGIN, or it is cut off."
        )
    return drawn(svg.replace(whole, f'viewBox="{MARGIN} {MARGIN} {used} {used}"'), TILE)


def drawn(svg: str, side: int) -> Image.Image:
    """A square SVG as (side, side) pixels with alpha; ModuleNotFoundError without resvg-py."""
    try:
        from resvg_py import svg_to_bytes
    except ModuleNotFoundError:
        raise ModuleNotFoundError("OpenMoji's drawings are SVG: `pip install resvg-py` draws them.") from None
    png = bytes(svg_to_bytes(svg_string=svg, width=side, height=side))
    return Image.open(io.BytesIO(png)).convert("RGBA")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for sheet, styles in ((SHEET, STYLES), (UNSEEN_SHEET, UNSEEN)):
        pack(Path(sys.argv[1]), sheet, styles)
        print(f"{sheet.name}: {sheet.stat().st_size / 1024:.0f} KiB")
