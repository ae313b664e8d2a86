"""``clip-codec info``: what a stream or a store is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.common import PATH, Command, json_option, read_bytes, write_json
from clip_feature_codec.cli.reconstruct_diffusion import codec_of
from clip_feature_codec.errors import BitstreamError


@click.command("info", cls=Command)
@click.argument("source", type=PATH)
@click.option("--codec", "codec_path", type=PATH, help="Store or codec.json that the stream was coded with.")
@json_option
def info(source: Path, codec_path: Path | None, json_path: Path | None) -> None:
    """Show what a .clp file or a store holds: bytes, codec, CLIP space, dimension."""
    facts = _store_facts(source) if source.is_dir() else _stream_facts(source, codec_path or codec_of(source))
    if json_path != Path("-"):
        width = max(map(len, facts))
        for name, value in facts.items():
            click.echo(f"{name.replace('_', ' '):{width}}  {value}")
    write_json(facts, json_path)


def _stream_facts(source: Path, codec_source: Path | str) -> dict[str, Any]:
    from clip_feature_codec.api import ClipCodec

    codec = ClipCodec.load(codec_source).features
    blob = read_bytes(source)
    try:
        codec.decode([blob])
        aspect = codec.aspect(blob)
    except BitstreamError as error:
        raise BitstreamError(f"{source}: {error}") from None
    return {
        "file": str(source),
        "bytes": len(blob),
        "profile": "int8",
        "aspect_ratio": round(aspect, 4),
    } | _codec_facts(codec)


def _store_facts(source: Path) -> dict[str, Any]:
    from clip_feature_codec.store.feature_store import DECODER_FILE, FeatureStore

    store = FeatureStore.open(source)
    sizes = [entry.bytes for entry in store.entries]
    facts = {
        "store": str(source),
        "pictures": len(sizes),
        "bytes": sum(sizes),
        "bytes_per_picture": round(sum(sizes) / max(1, len(sizes)), 1),
        "profile": "int8",
    }
    return facts | _codec_facts(store.codec) | {"trained_decoder": (source / DECODER_FILE).is_file()}


def _codec_facts(codec: Any) -> dict[str, Any]:
    space = dataclasses.asdict(codec.space)
    return {
        "codec_id": codec.codec_id.hex(),
        "clip_model": f"{space['model']}/{space['pretrained']}",
        "clip_space": codec.space.fingerprint,
        "dimension": codec.dim,
    }
