"""``clip-codec info``: what a stream or a store is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.common import (
    IN_PATH,
    STDIO,
    Command,
    codec_of,
    codec_option,
    json_option,
    read_stream,
    write_json,
)
from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:
    from clip_feature_codec.codec.feature_codec import FeatureCodec


@click.command("info", cls=Command)
@click.argument("source", type=IN_PATH)
@codec_option
@json_option
def info(source: Path, codec_path: Path | None, json_path: Path | None) -> None:
    """Show what a .clp file (- is standard input) or a store holds: bytes, codec, CLIP space, dimension."""
    if not source.is_dir():
        facts = _stream_facts(source, codec_path or codec_of(source))
    elif codec_path:
        raise ConfigError("a store is read with its own tables: leave out --codec")
    else:
        facts = _store_facts(source)
    if json_path != STDIO:
        width = max(map(len, facts))
        for name, value in facts.items():
            click.echo(f"{name.replace('_', ' '):{width}}  {value}")
    write_json(facts, json_path)


def _stream_facts(source: Path, codec_source: Path | str) -> dict[str, Any]:
    from clip_feature_codec.api import ClipCodec

    codec = ClipCodec.load(codec_source).features
    blob = read_stream(source, codec)
    return {
        "file": str(source),
        "bytes": len(blob),
        "aspect_ratio": round(codec.aspect(blob), 4),
    } | _codec_facts(codec)


def _store_facts(source: Path) -> dict[str, Any]:
    from clip_feature_codec.store.feature_store import DECODER_FILE, FeatureStore

    store = FeatureStore.open(source)
    total = sum(entry.bytes for entry in store.entries)
    return {
        "store": str(source),
        "pictures": len(store),
        "bytes": total,
        "bytes_per_picture": round(total / max(1, len(store)), 1),
        "trained_decoder": (source / DECODER_FILE).is_file(),
    } | _codec_facts(store.codec)


def _codec_facts(codec: FeatureCodec) -> dict[str, Any]:
    return {
        "profile": "int8",
        "codec_id": codec.codec_id.hex(),
        "clip_model": f"{codec.space.model}/{codec.space.pretrained}",
        "clip_space": codec.space.fingerprint,
        "dimension": codec.dim,
    }
