"""``clip-codec decode`` and SPEC's ``python -m clip_feature_codec.cli.reconstruct_diffusion``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import (
    PATH,
    STDIO,
    Command,
    batch_option,
    device_option,
    make_paint_options,
    paint_options,
    quiet_option,
    raise_failures,
    read_bytes,
    remark,
    weights_option,
    write_bytes,
)
from clip_feature_codec.errors import BitstreamError, ConfigError


@click.command("decode", cls=Command)
@click.argument("source", type=PATH)
@click.option(
    "-o", "--out", type=PATH, required=True, help="The picture (- is PNG to standard output), or a folder."
)
@click.option(
    "--codec",
    "codec_path",
    type=PATH,
    help="Store or codec.json that the stream was coded with. [default: found beside it, else the mini pack's]",
)
@weights_option
@paint_options
@batch_option
@device_option
@quiet_option
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
@click.option("--store-dir", type=PATH, required=True, help="The store that the stream belongs to.")
@click.option("--bitstream", type=PATH, help="One .clp file. [default: every stream of the store]")
@click.option("--out", type=PATH, required=True, help="The picture; without --bitstream, a folder.")
@weights_option
@paint_options
@batch_option
@device_option
@quiet_option
def main(store_dir: Path, bitstream: Path | None, out: Path, **options: Any) -> None:
    """Reconstruct an image from its .clp bitstream by DDIM, or every image of a store."""
    if bitstream is None:
        _decode_store(store_dir, out, **options)
    else:
        _decode_file(bitstream, out, store_dir, **options)


def codec_of(stream: Path) -> Path | str:
    """Find where the tables of a lone stream are: the store that it lies in, or else the default pack."""
    from clip_feature_codec.packs import DEFAULT_PACK
    from clip_feature_codec.store.feature_store import CODEC_FILE

    if stream == STDIO:
        return DEFAULT_PACK
    return next((p for p in stream.resolve().parents if (p / CODEC_FILE).is_file()), DEFAULT_PACK)


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

    chosen = make_paint_options(options)
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; one stream is decoded to a picture: name it")
    codec = ClipCodec.load(codec_source, weights=weights, device=device)
    blob = read_bytes(source)
    try:
        codec.vector(blob)
    except BitstreamError as error:
        raise BitstreamError(f"{source}: {error}") from None
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

    chosen = make_paint_options(options)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; a store is decoded to a folder of pictures")
    store = FeatureStore.open(store_dir)
    decoder = ClipCodec.load(store_dir, weights=weights, device=device).decoder
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
    for name, picture in tqdm(
        zip(names, pictures, strict=True), total=len(names), unit="img", desc="decoding", disable=quiet
    ):
        save_image(picture, out / f"{name}.png")
    remark(f"{out}: {len(names)} pictures", quiet)
    raise_failures(failures, len(store))


if __name__ == "__main__":
    main()
