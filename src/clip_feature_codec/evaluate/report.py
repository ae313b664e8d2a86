"""An `Evaluation` as a table for the terminal, a picture grid, or one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from PIL import Image

from clip_feature_codec import __version__
from clip_feature_codec.errors import ImageError
from clip_feature_codec.evaluate.evaluation import Evaluation, Sample
from clip_feature_codec.evaluate.metrics import METRICS
from clip_feature_codec.files import write_atomic
from clip_feature_codec.images import save_image

_COLUMNS = {"bytes": ("Bytes", 0), "bpp": ("Bits per pixel", 4)} | {
    name: (metric.title, metric.digits) for name, metric in METRICS.items()
}


def text_table(evaluation: Evaluation) -> str:
    """The aggregated figures as lines of text, with what is not available and why."""
    lines = [f"{'':18}{'mean':>10}{'std':>10}{'median':>10}{'n':>7}"]
    for name, figures in evaluation.summary().items():
        title, digits = _COLUMNS[name]
        cells = "".join(f"{_number(figures[key], max(digits, 1)):>10}" for key in ("mean", "std", "median"))
        lines.append(f"{title:18}{cells}{figures['count']:>7}")
    lines += [f"{_COLUMNS[name][0]}: not available: {why}" for name, why in evaluation.unavailable.items()]
    return "\n".join(lines)


def write_grid(samples: Sequence[Sample], path: Path, pairs_per_row: int = 4) -> None:
    """Save a picture of all samples: each original with its reconstruction to its right.

    Raises:
        ImageError: there are no samples, or the file cannot be written.
    """
    if not samples:
        raise ImageError(f"{path}: there are no pictures to make a grid of")
    cell = max(side for sample in samples for side in sample.reconstruction.size)
    gap = max(2, cell // 32)
    columns = min(pairs_per_row, len(samples))
    rows = -(-len(samples) // columns)
    width, height = 2 * cell + 2 * gap, cell + gap
    grid = Image.new("RGB", (columns * width + gap, rows * height + gap), "white")
    for i, sample in enumerate(samples):
        left, top = gap + i % columns * width, gap + i // columns * height
        for j, picture in enumerate((sample.original, sample.reconstruction)):
            across, down = (cell - picture.width) // 2, (cell - picture.height) // 2
            grid.paste(picture, (left + j * (cell + gap // 2) + across, top + down))
    save_image(grid, path)


def write_html(evaluation: Evaluation, path: Path, title: str) -> None:
    """Write `html_page` to a file."""
    write_atomic(path, html_page(evaluation, title).encode())


def html_page(evaluation: Evaluation, title: str) -> str:
    """One page that needs no connection: summary, pictures side by side, a table of all rows."""
    environment = Environment(
        loader=PackageLoader("clip_feature_codec.evaluate", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "data_url": _data_url}
    return environment.get_template("report.html.j2").render(
        title=title, evaluation=evaluation, columns=_COLUMNS, metrics=METRICS, version=__version__
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _data_url(picture: Image.Image) -> str:
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode()
