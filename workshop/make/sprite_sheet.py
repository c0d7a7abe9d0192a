"""Packs the sprite sheet from three npm packages: `python -m workshop.make.sprite_sheet node_modules`.

    npm install @lobehub/fluent-emoji-3d emoji-datasource-google emoji-datasource-twitter

Only needed to add a concept: the packed sheet is part of the repository (see assets/sprites/LICENSES.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from ovamnb.emoji.sprites import CODE_POINTS, SHEET, STYLES, TILE

SOURCES = {
    "fluent": "@lobehub/fluent-emoji-3d/assets/{}.webp",
    "google": "emoji-datasource-google/img/google/64/{}.png",
    "twitter": "emoji-datasource-twitter/img/twitter/64/{}.png",
}


def pack(node_modules: Path, sheet: Path = SHEET) -> None:
    """Writes one row of tiles per style and one column per concept, as a PNG with alpha."""
    picture = Image.new("RGBA", (TILE * len(CODE_POINTS), TILE * len(STYLES)))
    for row, style in enumerate(STYLES):
        for column, code in enumerate(CODE_POINTS.values()):
            tile = Image.open(node_modules / SOURCES[style].format(code)).convert("RGBA")
            picture.paste(tile.resize((TILE, TILE), Image.Resampling.LANCZOS), (column * TILE, row * TILE))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    picture.save(sheet, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pack(Path(sys.argv[1]))
    print(f"{SHEET.name}: {SHEET.stat().st_size / 1024:.0f} KiB")
