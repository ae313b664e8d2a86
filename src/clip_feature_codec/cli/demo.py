"""``clip-codec demo``: the whole codec on the photographs that come with scikit-image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    device_option,
    quiet_option,
    remark_on_model,
)
from clip_feature_codec.cli.painting import make_paint_options, paint_options
from clip_feature_codec.cli.paths import OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.extras import require
from clip_feature_codec.outputs.kinds import DEMO

_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)


_BUDGETS = (64, 140, 340)
_BASELINES = ("layout", "jpeg", "webp", "avif", "jxl", "blurhash", "thumbhash")


@click.command("demo", cls=Command, needs="eval")
@click.option(
    "-o",
    "--out",
    type=OutputPath(DEMO),
    default="demo",
    show_default=True,
    help="Folder for all that it makes.",
)
@paint_options
@device_option
@quiet_option
def demo(out: Path, device: str, quiet: bool, **options: Any) -> None:
    """Encode photographs, decode them again, measure them beside other codecs, and show it all on a page."""
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.encode import encode_source
    from clip_feature_codec.evaluate.analysis.summary import summarise
    from clip_feature_codec.evaluate.codecs import Painter
    from clip_feature_codec.evaluate.comparison import Comparison
    from clip_feature_codec.evaluate.evaluation import Evaluator
    from clip_feature_codec.evaluate.report import html_page, text_table, write_grid
    from clip_feature_codec.files import write_atomic

    require("eval", "clip-codec demo", "jinja2", "skimage", "blurhash")
    chosen = make_paint_options(options)
    codec = ClipCodec.load(device=device)
    remark_on_model(codec.features.space, quiet)
    photos, page = _write_photos(out / "photos"), out / "index.html"
    with resumable(), ProgressBars(quiet) as progress:
        encoded = encode_source(photos, out / "store", codec.embedder, codec.features, progress=progress)
    comparison = Comparison(budgets=_BUDGETS, baselines=_BASELINES)
    evaluator = Evaluator.prepare(encoded.store, [Painter(codec.decoder)], codec.embedder, chosen, comparison)
    with resumable(), ProgressBars(quiet) as progress:
        result = evaluator.run(command="clip-codec demo", progress=progress)
    summary = summarise(result)
    write_grid(result, evaluator.pictures, out / "grid.png")
    title = "clip-feature-codec: photographs through a few hundred bytes"
    write_atomic(page, html_page(result, evaluator.pictures, title, summary).encode())
    evaluator.finish()
    click.echo(text_table(result, summary))
    click.echo(f"open {page.resolve()}")


def _write_photos(folder: Path) -> Path:
    """Save the colour photographs that come inside scikit-image's package as PNG files."""
    import skimage.data

    from clip_feature_codec.images import load_image, save_image

    inside = Path(skimage.data.__file__).parent
    for name in _PHOTOS:
        save_image(load_image(inside / name), (folder / name).with_suffix(".png"))
    return folder
