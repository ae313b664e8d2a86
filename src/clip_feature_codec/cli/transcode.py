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
    quiet_option,
    raise_failures,
    rate_options,
    remark,
    write_bytes,
    write_json,
)
from clip_feature_codec.cli.paths import IN_PATH, NamedOrOnHub, OutputPath
from clip_feature_codec.cli.reporting import resumable
from clip_feature_codec.cli.streams import open_stream
from clip_feature_codec.outputs.kinds import STORE, STREAM

if TYPE_CHECKING:
    from clip_feature_codec.codec.feature_codec import FeatureCodec
    from clip_feature_codec.codec.rate import Rate


@click.command("transcode", cls=Command)
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
@json_option
@quiet_option
def transcode(
    source: Path, out: Path, codec_path: str | None, json_path: Path | None, quiet: bool, **options: Any
) -> None:
    """Make the streams of a store, or one .clp file (- is standard input), smaller without their pictures.

    Layers are dropped or made coarser, never finer. With --codec, the streams get other tables of the same
    CLIP model, such as those of clip-codec fit.
    """
    from clip_feature_codec.bundle import Bundle

    rate = make_rate(options)
    codec = Bundle.find(codec_path).codec if codec_path else None
    if source.is_dir():
        sizes, failures = _transcode_store(source, out, rate, codec, quiet)
    else:
        sizes, failures = _transcode_file(source, out, rate, codec), []
    record = {"out": str(out), "streams": len(sizes)}
    record |= {"bytes_before": sum(old for old, _ in sizes), "bytes_after": sum(new for _, new in sizes)}
    remark(
        "{out}: {streams} streams, {bytes_before} bytes before, {bytes_after} after".format(**record), quiet
    )
    write_json(record, json_path)
    raise_failures(failures, len(sizes) + len(failures))


def _transcode_store(
    source: Path, out: Path, rate: Rate, codec: FeatureCodec | None, quiet: bool
) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """Give the (old, new) size of each stream, and the failures."""
    from clip_feature_codec.store.opening import open_store
    from clip_feature_codec.store.transcoding import transcode_store

    with resumable(), ProgressBars(quiet) as progress:
        result = transcode_store(open_store(source), out, rate, codec, progress)
    return result.sizes, result.failures


def _transcode_file(source: Path, out: Path, rate: Rate, codec: FeatureCodec | None) -> list[tuple[int, int]]:
    from clip_feature_codec.codec.transcode import transcode as transcode_streams

    bundle, stream = open_stream(source)
    with naming(source):
        (smaller,) = transcode_streams([stream], rate, bundle.codec, codec or bundle.codec)
    write_bytes(smaller, out)
    return [(len(stream.blob), len(smaller))]
