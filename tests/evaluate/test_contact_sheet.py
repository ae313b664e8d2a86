from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec.evaluate.contact_sheet import CELL, Tile, contact_sheet


def tile(colour: str | None, size: tuple[int, int], *lines: str) -> Tile:
    return Tile(Image.new("RGB", size, colour) if colour else None, size, lines)


def share(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    """Pixels of just this colour."""
    return int((np.asarray(sheet) == colour).all(axis=2).sum())


def test_every_picture_is_on_the_sheet_whole() -> None:
    sizes = [(CELL, 100), (60, CELL), (CELL, CELL), (1, CELL), (CELL, 1)]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255), (0, 255, 255)]
    tiles = [tile("#" + bytes(c).hex(), size, "1   0.5") for c, size in zip(colours, sizes, strict=True)]
    for columns in (1, 2, 5, 9):
        sheet = contact_sheet("title", tiles, columns)
        assert [share(sheet, c) for c in colours] == [w * h for w, h in sizes]


def test_a_picture_that_is_missing_leaves_an_even_field() -> None:
    sheet = contact_sheet("", [tile(None, (100, 50))])
    assert share(sheet, (0xDD, 0xDD, 0xDD)) == 5000


@pytest.mark.parametrize("line", ["", "a" * 5000, "ünïcödé/写真/\U0001f600", "\x1b[2J\n\r\t\0", "\ud800"])
def test_any_text_fits_under_its_picture(line: str) -> None:
    plain, sheet = (contact_sheet(text, [tile(None, (CELL, CELL), text)] * 2) for text in ("", line))
    assert sheet.size == plain.size
    between = np.asarray(sheet)[60:, 16 + CELL : 16 + CELL + 8]
    assert (between == 255).all()


def test_long_names_keep_both_ends() -> None:
    tall, short = (contact_sheet("t", [tile(None, (9, 9), "a" * 80 + end)]) for end in ("b", "c"))
    assert (np.asarray(tall) != np.asarray(short)).any()


def test_a_sheet_of_nothing_is_a_title() -> None:
    assert contact_sheet("nothing found", []).height < 100
