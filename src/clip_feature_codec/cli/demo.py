"""``clip-codec demo``: the whole codec on the photographs that come with scikit-image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import (
    OUT_FOLDER,
    Command,
    device_option,
    make_paint_options,
    paint_options,
    quiet_option,
    remark_on_model,
)

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


@click.command("demo", cls=Command)
@click.option(
    "-o", "--out", type=OUT_FOLDER, default="demo", show_default=True, help="Folder for all that it makes."
)
@paint_options
@device_option
@quiet_option
def demo(out: Path, device: str, quiet: bool, **options: Any) -> None:
    """Encode photographs, decode them again, measure, and write a page that shows it all."""
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.encode import encode_folder
    from clip_feature_codec.evaluate.evaluation import evaluate_store
    from clip_feature_codec.evaluate.report import text_table, write_grid, write_html

    chosen = make_paint_options(options)
    codec = ClipCodec.load(device=device)
    remark_on_model(codec.features.space, quiet)
    photos, page = _write_photos(out / "photos"), out / "index.html"
    store = encode_folder(photos, out / "store", codec.embedder, codec.features, quiet=quiet).store
    result = evaluate_store(store, codec.decoder, codec.embedder, chosen, quiet=quiet)
    write_grid(result.samples, out / "grid.png")
    write_html(result, page, title="clip-feature-codec: photographs through a few hundred bytes")
    click.echo(text_table(result))
    click.echo(f"open {page.resolve()}")


def _write_photos(folder: Path) -> Path:
    """Save the colour photographs that come inside scikit-image's package as PNG files."""
    import skimage.data

    from clip_feature_codec.images import load_image, save_image

    inside = Path(skimage.data.__file__).parent
    for name in _PHOTOS:
        save_image(load_image(inside / name), (folder / name).with_suffix(".png"))
    return folder
