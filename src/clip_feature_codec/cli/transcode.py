"""``clip-codec transcode``: smaller streams without the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    json_option,
    make_rate,
    naming,
    packed_option,
    quiet_option,
    raise_failures,
    rate_options,
    ray_option,
    remark,
    write_bytes,
    write_json,
)
from clip_feature_codec.cli.paths import IN_PATH, NamedOrOnHub, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.cli.streams import open_stream
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.outputs.kinds import STORE, STREAM

if TYPE_CHECKING:
    from clip_feature_codec.codec.feature_codec import FeatureCodec
    from clip_feature_codec.codec.rate import Rate
    from clip_feature_codec.store.transcoding import TranscodeResult


@click.command("transcode", cls=Command, large_products=False)
@click.argument("source", type=IN_PATH)
@click.option(
    "-o",
    "--out",
    type=OutputPath(STREAM, STORE, by="source"),
    required=True,
    help="The .clp file (- is standard output), or the new store.",
)
@rate_options
@click.option(
    "--codec",
    "codec_path",
    type=NamedOrOnHub(),
    help="Tables of the new streams: a store or a codec.json. [default: those of the old ones]",
)
@packed_option
@ray_option
@json_option
@quiet_option
def transcode(
    source: Path,
    out: Path,
    codec_path: str | None,
    packed: bool,
    ray_address: str | None,
    json_path: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Make the streams of a store, or one .clp file (- is standard input), smaller without their pictures.

    Run again, it goes on where it was interrupted.

    Layers are dropped or made coarser, never finer. With --codec, the streams get other tables of the same
    CLIP model, such as those of clip-codec fit.
    """
    from clip_feature_codec.bundle import Bundle

    rate = make_rate(options)
    codec = Bundle.find(codec_path).codec if codec_path else None
    failures: list[tuple[str, str]] = []
    if source.is_dir():
        result = _transcode_store(source, out, rate, codec, packed, ray_address, quiet)
        streams, before, after = result.streams, result.bytes_before, result.bytes_after
        failures = result.failures
    elif ray_address:
        raise ConfigError(f"{source} is one stream; --ray is for a store: leave it out")
    else:
        streams, (before, after) = 1, _transcode_file(source, out, rate, codec)
    record = {"out": str(out), "streams": streams, "bytes_before": before, "bytes_after": after}
    remark(
        "{out}: {streams} streams, {bytes_before} bytes before, {bytes_after} after".format(**record), quiet
    )
    write_json(record, json_path)
    raise_failures(failures, streams + len(failures))


def _transcode_store(
    source: Path,
    out: Path,
    rate: Rate,
    codec: FeatureCodec | None,
    packed: bool,
    ray_address: str | None,
    quiet: bool,
) -> TranscodeResult:
    from clip_feature_codec.store.opening import open_store
    from clip_feature_codec.store.transcoding import transcode_store

    store = open_store(source)
    with resumable(), ProgressBars(quiet) as progress:
        if ray_address is None:
            return transcode_store(store, out, rate, codec, progress, packed=packed)
        from clip_feature_codec.distributed.cluster import connected
        from clip_feature_codec.distributed.transcoding import RayTranscoding

        with connected(ray_address):
            return transcode_store(store, out, rate, codec, progress, packed=True, elsewhere=RayTranscoding())


def _transcode_file(source: Path, out: Path, rate: Rate, codec: FeatureCodec | None) -> tuple[int, int]:
    """Give the old and the new size of the stream."""
    from clip_feature_codec.codec.transcode import transcode as transcode_streams

    bundle, stream = open_stream(source)
    with naming(source):
        (smaller,) = transcode_streams([stream], rate, bundle.codec, codec or bundle.codec)
    write_bytes(smaller, out)
    return len(stream.blob), len(smaller)
