"""``clip-codec info``: what a stream or a store is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    ProgressBars,
    codec_option,
    json_option,
    naming,
    quiet_option,
    raise_failures,
    write_json,
)
from clip_feature_codec.cli.paths import IN_PATH
from clip_feature_codec.cli.streams import open_stream
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.files import STDIO

if TYPE_CHECKING:
    from clip_feature_codec.codec.feature_codec import FeatureCodec


@click.command("info", cls=Command, large_products=False)
@click.argument("source", type=IN_PATH)
@codec_option
@click.option(
    "--verify", is_flag=True, help="Of a store, read every stream, and list those that are damaged."
)
@json_option
@quiet_option
def info(
    source: Path, codec_path: str | None, verify: bool, json_path: Path | None, quiet: bool, **_: Any
) -> None:
    """Show what a .clp file (- is standard input) or a store holds: bytes, codec, CLIP space, dimension.

    What is said of a store is what its manifest says; with --verify, its streams are read as well.
    """
    failures: list[tuple[str, str]] = []
    if not source.is_dir():
        if verify:
            raise ConfigError(
                f"{source} is one stream, which is always read; --verify is for a store: leave it out"
            )
        facts = _stream_facts(source, codec_path)
    elif codec_path:
        raise ConfigError("a store is read with its own tables: leave out --codec")
    else:
        facts, failures = _store_facts(source, verify, quiet)
    if json_path != STDIO:
        width = max(map(len, facts))
        for name, value in facts.items():
            click.echo(f"{name.replace('_', ' '):{width}}  {value}")
    write_json(facts, json_path)
    raise_failures(failures, len(failures) + 1)  # what can be said is said: something is done


def _stream_facts(source: Path, codec_path: str | None) -> dict[str, Any]:
    bundle, stream = open_stream(source, codec_path)
    with naming(source):
        bundle.codec.decode([stream])
    return {
        "file": str(source),
        "bytes": len(stream.blob),
        "header_bytes": stream.header,
        "semantic_bytes": len(stream.semantic or b""),
        "layout_bytes": len(stream.layout or b""),
        "aspect_ratio": round(stream.aspect, 4),
    } | _codec_facts(bundle.codec)


def _store_facts(source: Path, verify: bool, quiet: bool) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    from clip_feature_codec.names import DECODER_FILE
    from clip_feature_codec.store.opening import is_packed, open_store
    from clip_feature_codec.store.verifying import layer_bytes, verify_store

    store = open_store(source)
    with ProgressBars(quiet) as progress:
        failures = verify_store(store, progress) if verify else []
        sums = layer_bytes(store)
    parts = {
        "header": sums.bytes - sums.semantic_bytes - sums.layout_bytes,
        "semantic": sums.semantic_bytes,
        "layout": sums.layout_bytes,
    }
    count = max(1, sums.pictures)
    facts = {
        "store": str(source),
        "packed": is_packed(source),
        "pictures": sums.pictures,
        "bytes": sums.bytes,
        "bytes_per_picture": round(sums.bytes / count, 1),
        **{f"{name}_bytes_per_picture": round(total / count, 1) for name, total in parts.items()},
        "trained_decoder": (source / DECODER_FILE).is_file(),
    }
    return facts | _codec_facts(store.codec), failures


def _codec_facts(codec: FeatureCodec) -> dict[str, Any]:
    return {
        "profile": codec.profile,
        "codec_id": codec.codec_id.hex(),
        "clip_model": f"{codec.space.model}/{codec.space.pretrained}",
        "clip_space": codec.space.fingerprint,
        "dimension": codec.dim,
    }
