"""``clip-codec eval`` and its other form, ``python -m clip_feature_codec.cli.eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import (
    IN_FOLDER,
    OUT_FILE,
    STDIO,
    Command,
    batch_option,
    check_outputs,
    check_picture_name,
    device_option,
    json_option,
    make_paint_options,
    model_options,
    paint_options,
    quiet_option,
    raise_failures,
    remark_on_model,
    stack,
    weights_option,
    write_bytes,
    write_json,
)

_options = stack(
    weights_option,
    paint_options,
    batch_option,
    model_options,
    click.option("--limit", type=click.IntRange(min=1), help="Only the first pictures of the store."),
    click.option(
        "--require",
        multiple=True,
        metavar="METRIC",
        help="Fail when this metric is not available here (may be repeated).",
    ),
    click.option(
        "--grid",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Save originals beside reconstructions as one picture.",
    ),
    click.option(
        "--html",
        "html_path",
        type=OUT_FILE,
        help="Write a report page that needs no connection (- is standard output).",
    ),
    json_option,
    device_option,
    quiet_option,
)


@click.command("eval", cls=Command)
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER)
@_options
def evaluate(**options: Any) -> None:
    """Decode every picture of a store and measure it: PSNR, SSIM, LPIPS, CLIP similarity."""
    _evaluate(**options)


@click.command("eval", cls=Command)
@click.option("--store-dir", type=IN_FOLDER, required=True, help="The store.")
@_options
def main(**options: Any) -> None:
    """Evaluate a decoder on all images of a store: PSNR, SSIM, LPIPS, CLIP similarity."""
    _evaluate(**options)


def _evaluate(
    store_dir: Path,
    weights: Path | None,
    batch_size: int,
    model: str | None,
    pretrained: str | None,
    limit: int | None,
    require: tuple[str, ...],
    grid: Path | None,
    html_path: Path | None,
    json_path: Path | None,
    device: str,
    quiet: bool,
    **options: Any,
) -> None:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.evaluate.evaluation import evaluate_store
    from clip_feature_codec.evaluate.report import html_page, text_table, write_grid
    from clip_feature_codec.store.feature_store import FeatureStore

    check_outputs(html_path, json_path)
    if grid:
        check_picture_name(grid)
    chosen = make_paint_options(options)
    store = FeatureStore.open(store_dir)
    codec = ClipCodec.load(store_dir, weights=weights, model=model, pretrained=pretrained, device=device)
    remark_on_model(store.codec.space, quiet)
    result = evaluate_store(
        store,
        codec.decoder,
        codec.embedder,
        chosen,
        batch_size=batch_size,
        limit=limit,
        require=require,
        quiet=quiet,
    )
    if STDIO not in (json_path, html_path):
        click.echo(text_table(result))
    if grid:
        write_grid(result.samples, grid)
    if html_path:
        title = f"Evaluation of {store_dir.resolve().name}"
        write_bytes(html_page(result, title).encode(), html_path)
    write_json(result.to_json(), json_path)
    raise_failures(result.failures, len(result.rows) + len(result.failures))


if __name__ == "__main__":
    main()
