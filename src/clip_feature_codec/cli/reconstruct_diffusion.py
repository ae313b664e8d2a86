"""``clip-codec decode`` and its other form, ``python -m clip_feature_codec.cli.reconstruct_diffusion``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    batch_option,
    codec_option,
    decoder_option,
    device_option,
    naming,
    quiet_option,
    raise_failures,
    remark,
    remark_on_model,
    stack,
    write_bytes,
)
from clip_feature_codec.cli.painting import make_paint_options, paint_options
from clip_feature_codec.cli.paths import IN_FILE, IN_FOLDER, IN_PATH, OutputPath
from clip_feature_codec.cli.streams import open_stream
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.files import STDIO
from clip_feature_codec.outputs.kinds import DECODED, PIPED_PICTURE
from clip_feature_codec.progress import Progress, silent

if TYPE_CHECKING:
    from PIL import Image

    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.codec.bitstream import Stream

_decode_options = stack(decoder_option, paint_options, batch_option, device_option, quiet_option)


@click.command("decode", cls=Command)
@click.argument("source", type=IN_PATH)
@click.option(
    "-o",
    "--out",
    type=OutputPath(PIPED_PICTURE, DECODED, by="source"),
    required=True,
    help="The picture (- is PNG to standard output), or a folder.",
)
@codec_option
@_decode_options
@click.option(
    "--preview",
    "preview_only",
    is_flag=True,
    help="Show the layout layer alone, blurred, without any network.",
)
def decode(source: Path, out: Path, codec_path: str | None, **options: Any) -> None:
    """Paint the picture of a .clp file, or of every stream of a store.

    SOURCE is a .clp file (- is standard input) or a store; the pictures of a store become PNG files in the
    folder OUT, under their names in the store. With --preview, of the other options only --size and --square
    matter.
    """
    if source.is_dir():
        if codec_path:
            raise ConfigError("a store is decoded with its own tables: leave out --codec")
        _decode_store(source, out, **options)
    else:
        _decode_file(source, out, codec_path, **options)


@click.command("reconstruct_diffusion", cls=Command)
@click.option("--store-dir", type=IN_FOLDER, required=True, help="The store that the stream belongs to.")
@click.option("--bitstream", type=IN_FILE, help="One .clp file. [default: every stream of the store]")
@click.option(
    "--out",
    type=OutputPath(PIPED_PICTURE, DECODED, by="bitstream"),
    required=True,
    help="The picture; without --bitstream, a folder.",
)
@_decode_options
def main(store_dir: Path, bitstream: Path | None, out: Path, **options: Any) -> None:
    """Reconstruct an image from its .clp bitstream by diffusion, or every image of a store."""
    if bitstream is None:
        _decode_store(store_dir, out, **options)
    else:
        _decode_file(bitstream, out, str(store_dir), **options)


def _decode_file(
    source: Path,
    out: Path,
    codec_path: str | None,
    decoder: str | None,
    device: str,
    quiet: bool,
    **options: Any,
) -> None:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.images import save_image

    bundle, stream = open_stream(source, codec_path)
    codec = ClipCodec.load(bundle, decoder=decoder, device=device)
    with naming(source):
        picture = next(_pictures([stream], codec, quiet, silent, **options))
    if out == STDIO:
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        write_bytes(encoded.getvalue(), out)
    else:
        save_image(picture, out)
    remark(f"{out}: {picture.width}×{picture.height} pixels from {len(stream.blob)} bytes", quiet)


def _decode_store(
    store_dir: Path,
    out: Path,
    decoder: str | None,
    device: str,
    quiet: bool,
    **options: Any,
) -> None:
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.images import save_image
    from clip_feature_codec.store.opening import open_store

    store = open_store(store_dir)
    codec = ClipCodec.load(store_dir, decoder=decoder, device=device)
    whole, failures = store.whole_streams()
    if options.get("preview_only"):
        shown = []
        for entry, stream in whole:
            if stream.layout is None:
                path = str(store.stream_path(entry))
                failures.append((path, f"{path}: there is no layout layer to show"))
            else:
                shown.append((entry, stream))
        whole = shown
    with closing(ProgressBars(quiet)) as bars:
        pictures = _pictures([stream for _, stream in whole], codec, quiet, bars, **options)
        for (entry, _), picture in zip(whole, pictures, strict=True):
            save_image(picture, out / f"{entry.name}.png")
    remark(f"{out}: {len(whole)} pictures", quiet)
    raise_failures(failures, len(store))


def _pictures(
    streams: Sequence[Stream],
    codec: ClipCodec,
    quiet: bool,
    progress: Progress,
    preview_only: bool = False,
    batch_size: int = 1,
    **options: Any,
) -> Iterator[Image.Image]:
    """Paint the pictures of streams, or show their layouts."""
    if preview_only:
        return _previews(streams, codec, options["size"], options["square"], progress)
    from clip_feature_codec.reconstruct import paint

    chosen = make_paint_options(options)
    remark_on_model(codec.features.space, quiet)
    return paint(streams, codec.features, codec.decoder, chosen, batch_size, progress)


def _previews(
    streams: Sequence[Stream], codec: ClipCodec, size: int, square: bool, progress: Progress
) -> Iterator[Image.Image]:
    from clip_feature_codec.preview import preview

    progress("decoding", 0, len(streams))
    for done, stream in enumerate(streams, 1):
        yield preview(stream, codec.features, size, square)
        progress("decoding", done, len(streams))


if __name__ == "__main__":
    main()
