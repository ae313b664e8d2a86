"""Originals beside what each codec made of them under one budget, as one PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clip_feature_codec.errors import ImageError
from clip_feature_codec.evaluate.report.looks import budget_label, middle
from clip_feature_codec.evaluate.report.pictures import Pictures, choose, with_pictures
from clip_feature_codec.evaluate.results import ORIGINAL, Evaluation, Series
from clip_feature_codec.files import printable
from clip_feature_codec.images import load_image, save_image

_CELL = 192
_GAP = 8
_LINE = 19
_MARGIN = 24
_MOST_COLUMNS = 10
_INK, _QUIET, _EMPTY = "#1c1e21", "#6a6e75", "#f0eeea"


@dataclass(frozen=True)
class _Cell:
    picture: Image.Image | None
    caption: str


def write_grid(evaluation: Evaluation, pictures: Pictures, path: Path) -> None:
    """Save the pictures that the page shows: one row each, the original and every codec at the middle budget.

    Bytes stand under each; where nothing fits, the field says so. With few codecs several pictures share
    a row.

    Raises:
        ImageError: there is no picture to show, or the file cannot be written.
    """
    budget = middle(evaluation.budgets)
    rows = {(row.image, row.series): row for row in reversed(evaluation.rows) if row.budget == budget}
    drawn = {series for _, series in rows}
    columns = [series for series in with_pictures(evaluation) if series.id in drawn]
    lines = []
    for chosen in choose(evaluation):
        original = pictures.get((chosen.name, ORIGINAL, None))
        if original is None:
            continue
        line = [_Cell(_opened(original), printable(chosen.name))]
        for series in columns:
            row = rows.get((chosen.name, series.id))
            data = pictures.get((chosen.name, series.id, budget))
            caption = f"{row.bytes:,} bytes" if row else "no file"
            line.append(_Cell(_opened(data) if data is not None else None, caption))
        lines.append(line)
    if not lines:
        raise ImageError(f"{path}: there are no pictures to make a grid of")
    save_image(_sheet(lines, columns, "" if budget is None else f", {budget_label(budget)}"), path)


def _opened(data: bytes) -> Image.Image:
    picture = load_image(data)
    picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return picture


def _sheet(lines: list[list[_Cell]], columns: list[Series], under: str) -> Image.Image:
    """Draw rows of cells below the columns' titles, as many groups side by side as there is room for."""
    across = 1 + len(columns)
    groups = min(len(lines), max(1, _MOST_COLUMNS // across))
    heights = [
        max(cell.picture.height for line in lines[i : i + groups] for cell in line if cell.picture)
        for i in range(0, len(lines), groups)
    ]
    step = _CELL + _GAP
    group_width = across * step + _MARGIN - _GAP
    width = groups * group_width + _MARGIN
    height = _MARGIN + 2 * _LINE + sum(heights) + len(heights) * (_LINE + 2 * _GAP) + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(15), ImageFont.load_default(12)
    titles = ["Original", *(series.title + (under if i == 0 else "") for i, series in enumerate(columns))]
    top = _MARGIN
    for group in range(groups):
        for column, title in enumerate(titles):
            left = _MARGIN + group * group_width + column * step
            draw.text((left, top), _clipped(title, bold), _INK, bold)
    top += 2 * _LINE
    for i, tallest in enumerate(heights):
        for group, line in enumerate(lines[i * groups : (i + 1) * groups]):
            for column, cell in enumerate(line):
                left = _MARGIN + group * group_width + column * step
                if cell.picture is None:
                    draw.rectangle((left, top, left + _CELL - 1, top + tallest - 1), _EMPTY)
                else:
                    sheet.paste(cell.picture, (left, top + tallest - cell.picture.height))
                draw.text((left, top + tallest + 3), _clipped(cell.caption, small), _QUIET, small)
        top += tallest + _LINE + 2 * _GAP
    return sheet


def _clipped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a text off where its cell ends."""
    if font.getlength(text) <= _CELL:
        return text
    while text and font.getlength(text + "…") > _CELL:
        text = text[:-1]
    return text + "…"
