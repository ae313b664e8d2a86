"""``clip-codec decode`` and its other form, ``python -m clip_feature_codec.cli.reconstruct_diffusion``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
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
    ray_option,
    remark,
    remark_on_model,
    stack,
    write_bytes,
)
from clip_feature_codec.cli.painting import make_paint_options, paint_options
from clip_feature_codec.cli.paths import IN_FILE, IN_FOLDER, IN_PATH, OutputPath, absolute
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.cli.streams import open_stream
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.files import STDIO, file_sha256
from clip_feature_codec.lazy import lazy
from clip_feature_codec.outputs import FileKind, FolderKind
from clip_feature_codec.outputs.kinds import DECODED, PIPED_PICTURE, decoded

if TYPE_CHECKING:
    from PIL import Image

    from clip_feature_codec.bundle import Bundle
    from clip_feature_codec.codec.bitstream import Stream
    from clip_feature_codec.decoders.protocol import Decoder
    from clip_feature_codec.decoding import Deferred
    from clip_feature_codec.store.manifest import Entry
    from clip_feature_codec.store.protocol import Store


class _Decoded(OutputPath):
    """The picture of a stream, or a folder of those of a store that are asked for."""

    def kind(self, params: Mapping[str, Any]) -> FileKind | FolderKind:
        """Give the kind that the path becomes."""
        kind = super().kind(params)
        return decoded(params["names"]) if kind is DECODED else kind


_decode_options = stack(decoder_option, paint_options, batch_option, device_option, quiet_option)


@click.command("decode", cls=Command, large_products=False)
@click.argument("source", type=IN_PATH)
@click.option(
    "-o",
    "--out",
    type=_Decoded(PIPED_PICTURE, DECODED, by="source"),
    required=True,
    help="The picture (- is PNG to standard output), or a folder.",
)
@codec_option
@_decode_options
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Only the picture of this name in the store; may be given several times.",
)
@click.option(
    "--preview",
    "preview_only",
    is_flag=True,
    help="Show the layout layer alone, blurred, without any network.",
)
@ray_option
def decode(
    source: Path,
    out: Path,
    codec_path: str | None,
    names: tuple[str, ...],
    ray_address: str | None,
    **options: Any,
) -> None:
    """Paint the picture of a .clp file, or of every stream of a store.

    SOURCE is a .clp file (- is standard input) or a store; the pictures of a store become PNG files in the
    folder OUT, under their names in the store. Run again, it goes on where it was interrupted.

    With --preview, of the other options only --size and --square matter.
    """
    if source.is_dir():
        if codec_path:
            raise ConfigError("a store is decoded with its own tables: leave out --codec")
        if names and ray_address:
            raise ConfigError("--ray decodes a whole store, --name chooses from it: leave one of them out")
        _decode_store(source, out, names=names, ray_address=ray_address, **options)
    elif names:
        raise ConfigError(f"{source} is one stream; --name chooses from a store: leave it out")
    elif ray_address:
        raise ConfigError(f"{source} is one stream; --ray is for a store: leave it out")
    else:
        _decode_file(source, out, codec_path, **options)


@click.command("reconstruct_diffusion", cls=Command, large_products=False)
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


def _decode_file(source: Path, out: Path, codec_path: str | None, quiet: bool, **options: Any) -> None:
    from clip_feature_codec.images import png_bytes, save_image

    bundle, stream = open_stream(source, codec_path)
    with naming(source):
        (deferred,) = _Show(bundle, quiet, **options)([stream])
        picture = deferred()
    if out == STDIO:
        write_bytes(png_bytes(picture), out)
    else:
        save_image(picture, out)
    remark(f"{out}: {picture.width}×{picture.height} pixels from {len(stream.blob)} bytes", quiet)


def _decode_store(
    store_dir: Path,
    out: Path,
    quiet: bool,
    names: tuple[str, ...] = (),
    preview_only: bool = False,
    ray_address: str | None = None,
    **options: Any,
) -> None:
    from clip_feature_codec.bundle import Bundle
    from clip_feature_codec.decoding import decode_store
    from clip_feature_codec.store.opening import open_store

    store = open_store(store_dir)
    entries = [_named(store, name) for name in dict.fromkeys(names)] if names else store.entries
    if ray_address:  # where it works, the current folder is another
        store_dir = store_dir.resolve()
        options["decoder"] = absolute(options["decoder"])
    bundle = Bundle.find(store_dir)
    decoder = None if preview_only else options["decoder"] or bundle.decoder
    show = _Show(bundle, quiet, preview_only=preview_only, **options)
    made_with, layer = _made_with(decoder, options), "layout" if preview_only else None
    with resumable(), ProgressBars(quiet) as bars:
        if ray_address is None:
            failures = decode_store(store, entries, out, show, made_with, layer=layer, progress=bars)
        else:
            from clip_feature_codec.distributed.cluster import connected
            from clip_feature_codec.distributed.decoding import decode_on_ray

            device = None if preview_only else options["device"]
            with connected(ray_address):
                failures = decode_on_ray(store, out, show, made_with, device, layer=layer, progress=bars)
    remark(f"{out}: {len(entries) - len(failures)} pictures", quiet)
    raise_failures(failures, len(entries))


def _named(store: Store, name: str) -> Entry:
    entry = store.named(name)
    if entry is None:
        raise ConfigError(f"{store.folder}: there is no picture of the name {name!r}")
    return entry


def _made_with(decoder: str | Path | None, options: dict[str, Any]) -> str:
    """What the pictures depend on beside their streams: the decoder, and how it paints.

    A checkpoint counts by its bytes; a folder, which may hold gigabytes, by what its files are called, how
    large they are and when they were written; what is on a hub by its name.
    """
    how = {name: value for name, value in options.items() if name not in ("device", "batch_size")}
    place = Path(decoder or "")
    named = None if place.is_file() else str(decoder)
    digest = hashlib.sha256(json.dumps(how | {"decoder": named}, sort_keys=True).encode())
    if decoder and place.is_file():
        digest.update(bytes.fromhex(file_sha256(place)))
    elif decoder and place.is_dir():
        for path in sorted(place.rglob("*")):
            about = path.stat()
            digest.update(f"{path.relative_to(place)} {about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


class _Show:
    """Gives the pictures of streams; the decoder is loaded where one is needed, and once.

    Args:
        bundle: tables of the streams, and their decoder.
        quiet: whether nothing is said of the model.
        decoder: another decoder, by path or name.
        device: where it runs.
        preview_only: show the layouts instead.
        batch_size: pictures painted at a time.
        **options: the values of `paint_options`.
    """

    def __init__(
        self,
        bundle: Bundle,
        quiet: bool,
        decoder: str | None,
        device: str,
        preview_only: bool = False,
        batch_size: int = 1,
        **options: Any,
    ) -> None:
        self._bundle, self._quiet, self._name, self._device = bundle, quiet, decoder, device
        self._preview_only, self._batch_size = preview_only, batch_size
        self._size, self._square = options["size"], options["square"]
        self._options = make_paint_options(options)

    def __call__(self, streams: Sequence[Stream]) -> Iterator[Deferred]:
        codec = self._bundle.codec
        if self._preview_only:
            from clip_feature_codec.preview import preview

            return (partial(preview, stream, codec, self._size, self._square) for stream in streams)
        from clip_feature_codec.reconstruct import paint

        pictures = paint(streams, codec, self._decoder, self._options, self._batch_size)
        return (partial(_given, picture) for picture in pictures)

    @lazy
    def _decoder(self) -> Decoder:
        from clip_feature_codec.api import ClipCodec

        remark_on_model(self._bundle.codec.space, self._quiet)
        return ClipCodec.load(self._bundle, decoder=self._name, device=self._device).decoder


def _given(picture: Image.Image) -> Image.Image:
    return picture


if __name__ == "__main__":
    main()
