"""``clip-codec decode`` and its other form, ``python -m clip_feature_codec.cli.reconstruct_diffusion``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import (
    IN_FILE,
    IN_FOLDER,
    IN_PATH,
    OUT_PATH,
    STDIO,
    Command,
    batch_option,
    check_picture_name,
    codec_of,
    codec_option,
    device_option,
    make_paint_options,
    paint_options,
    quiet_option,
    raise_failures,
    read_stream,
    remark,
    remark_on_model,
    stack,
    weights_option,
    write_bytes,
)
from clip_feature_codec.errors import BitstreamError, ConfigError

_decode_options = stack(weights_option, paint_options, batch_option, device_option, quiet_option)


@click.command("decode", cls=Command)
@click.argument("source", type=IN_PATH)
@click.option(
    "-o",
    "--out",
    type=OUT_PATH,
    required=True,
    help="The picture (- is PNG to standard output), or a folder.",
)
@codec_option
@_decode_options
def decode(source: Path, out: Path, codec_path: Path | None, **options: Any) -> None:
    """Paint the picture of a .clp file, or of every stream of a store.

    SOURCE is a .clp file (- is standard input) or a store; the pictures of a store become PNG files in the
    folder OUT, under their names in the store.
    """
    if source.is_dir():
        if codec_path:
            raise ConfigError("a store is decoded with its own tables: leave out --codec")
        _decode_store(source, out, **options)
    else:
        _decode_file(source, out, codec_path or codec_of(source), **options)


@click.command("reconstruct_diffusion", cls=Command)
@click.option("--store-dir", type=IN_FOLDER, required=True, help="The store that the stream belongs to.")
@click.option("--bitstream", type=IN_FILE, help="One .clp file. [default: every stream of the store]")
@click.option("--out", type=OUT_PATH, required=True, help="The picture; without --bitstream, a folder.")
@_decode_options
def main(store_dir: Path, bitstream: Path | None, out: Path, **options: Any) -> None:
    """Reconstruct an image from its .clp bitstream by DDIM, or every image of a store."""
    if bitstream is None:
        _decode_store(store_dir, out, **options)
    else:
        _decode_file(bitstream, out, store_dir, **options)


def _decode_file(
    source: Path,
    out: Path,
    codec_source: Path | str,
    weights: Path | None,
    device: str,
    quiet: bool,
    batch_size: int,
    **options: Any,
) -> None:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.images import save_image
    from clip_feature_codec.reconstruct import paint

    if out.is_dir():
        raise ConfigError(f"{out} is a folder; one stream is decoded to a picture: name it")
    if out != STDIO:
        check_picture_name(out)
    chosen = make_paint_options(options)
    codec = ClipCodec.load(codec_source, weights=weights, device=device)
    blob = read_stream(source, codec.features)
    remark_on_model(codec.features.space, quiet)
    picture = next(paint([blob], codec.features, codec.decoder, chosen, batch_size))
    if out == STDIO:
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        write_bytes(encoded.getvalue(), out)
    else:
        save_image(picture, out)
    remark(f"{out}: {picture.width}×{picture.height} pixels from {len(blob)} bytes", quiet)


def _decode_store(
    store_dir: Path,
    out: Path,
    weights: Path | None,
    device: str,
    quiet: bool,
    batch_size: int,
    **options: Any,
) -> None:
    from tqdm import tqdm

    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.images import save_image
    from clip_feature_codec.reconstruct import paint
    from clip_feature_codec.store.feature_store import FeatureStore

    if out == STDIO or out.is_file():
        raise ConfigError(f"{out} is a file; a store is decoded to a folder of pictures")
    chosen = make_paint_options(options)
    store = FeatureStore.open(store_dir)
    decoder = ClipCodec.load(store_dir, weights=weights, device=device).decoder
    remark_on_model(store.codec.space, quiet)
    names, blobs, failures = [], [], []
    for entry in store.entries:
        try:
            blob = store.read(entry)
            store.codec.decode([blob])
        except BitstreamError as error:
            failures.append((str(store.stream_path(entry)), str(error)))
        else:
            names.append(entry.name)
            blobs.append(blob)
    pictures = paint(blobs, store.codec, decoder, chosen, batch_size)
    with tqdm(total=len(names), unit="img", desc="decoding", disable=quiet) as bar:
        for name, picture in zip(names, pictures, strict=True):
            save_image(picture, out / f"{name}.png")
            bar.update()
    remark(f"{out}: {len(names)} pictures", quiet)
    raise_failures(failures, len(store))


if __name__ == "__main__":
    main()
