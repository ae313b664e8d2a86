"""A contact sheet: small pictures in a grid, with lines of text under each."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from clip_feature_codec.files import printable

CELL = 192
"""Longer side of a picture on the sheet, in pixels."""

_GAP = 16
_TITLE_SIZE = 22
_TEXT_SIZE = 14
_INK = "#222222"
_FAINT = "#777777"
_NOTHING = "#dddddd"

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Tile:
    """One cell of a sheet.

    Attributes:
        picture: at most `CELL` pixels on each side; None where there is none to show.
        size: (width, height) that the picture has, or that an even field takes in its place.
        lines: text under it; what does not fit is cut off.
    """

    picture: Image.Image | None
    size: tuple[int, int]
    lines: Sequence[str]


def contact_sheet(title: str, tiles: Sequence[Tile], columns: int = 5) -> Image.Image:
    """Lay tiles out in rows below a title; all rows have the height of the tallest."""
    heading, text = (ImageFont.load_default(size) for size in (_TITLE_SIZE, _TEXT_SIZE))
    line_height = _TEXT_SIZE + 5
    columns = max(1, min(columns, len(tiles)))
    width = max(3, columns) * (CELL + _GAP) + _GAP  # three, so that there is room for the title
    tallest = max((tile.size[1] for tile in tiles), default=0)
    row_height = tallest + line_height * max((len(tile.lines) for tile in tiles), default=0) + 2 * _GAP
    top = _TITLE_SIZE + 2 * _GAP
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (width, top + rows * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _fitted(title, heading, width - 2 * _GAP), _INK, heading)
    for i, tile in enumerate(tiles):
        left, above = _GAP + i % columns * (CELL + _GAP), top + i // columns * row_height
        down = above + tallest - tile.size[1]
        if tile.picture is None:
            draw.rectangle((left, down, left + tile.size[0] - 1, down + tile.size[1] - 1), _NOTHING)
        else:
            sheet.paste(tile.picture, (left, down))
        for j, line in enumerate(tile.lines):
            place = left, above + tallest + 4 + j * line_height
            draw.text(place, _fitted(line, text, CELL), _FAINT if j else _INK, text)
    return sheet


def _fitted(line: str, font: _Font, width: int) -> str:
    """A line, its middle left out where it is too long: names tend to differ at their ends."""
    line = printable(line)[:1000]
    if font.getlength(line) <= width:
        return line
    kept = (
        bisect(range(len(line)), width, key=lambda kept: math.ceil(font.getlength(_shortened(line, kept))))
        - 1
    )
    return _shortened(line, max(0, kept))


def _shortened(line: str, kept: int) -> str:
    head = kept // 2
    return line[:head] + "..." + line[len(line) - (kept - head) :]
