"""Streams coded again without their pictures: layers are dropped or made coarser, never finer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.bitstream import LAYERS, Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import MissingLayerError


def transcode(
    streams: Sequence[Stream], rate: Rate, source: FeatureCodec, target: FeatureCodec
) -> list[bytes]:
    """Code streams again.

    Args:
        streams: N streams of ``source``.
        rate: how large or how good the new ones should be, and which layers they keep; ``quality`` and
            ``target_cosine`` are measured against what the old ones decode to.
        source: the codec of the old streams.
        target: the codec of the new ones, of the same CLIP space; may be the same.

    Returns:
        N streams of ``target``. One that has that codec already, and would not become smaller or fits the
        budget, is left as it is, but for the layers that go.

    Raises:
        SpaceMismatchError: the codecs are of different CLIP spaces.
        MissingLayerError: a stream has none of the layers that are to be kept.
        BitstreamError: a payload is none of ``source``'s.
        ConfigError: the rate cannot be met.
    """
    target.space.require_same(source.space, "the streams to transcode")
    kept = [_without_dropped(stream, rate) for stream in streams]
    alike: defaultdict[tuple[bool, ...], list[int]] = defaultdict(list)
    for row, stream in enumerate(kept):
        there = tuple(stream.payload(name) is not None for name in LAYERS)
        if not any(there):
            raise MissingLayerError(
                f"{rate.layers} layer: found none in stream {row + 1}, expected one to keep"
            )
        alike[there].append(row)
    results: dict[int, bytes] = {}
    for rows in alike.values():
        again = _coded_again([kept[row] for row in rows], rate, source, target)
        results.update(zip(rows, again, strict=True))
    return [results[row] for row in range(len(streams))]


def _without_dropped(stream: Stream, rate: Rate) -> Stream:
    """The stream without the layers that are to go."""
    dropped: dict[str, Any] = {name: None for name in LAYERS if rate.layers not in ("both", name)}
    return replace(stream, **dropped)


def _coded_again(
    streams: Sequence[Stream], rate: Rate, source: FeatureCodec, target: FeatureCodec
) -> list[bytes]:
    """Code streams that all have the same layers."""
    coded = target.encode(source.decode(streams), rate)
    if source.tables_sha256 != target.tables_sha256:
        return coded
    digest = bytes.fromhex(target.tables_sha256)
    kept = [
        bitstream.pack(digest, target.profile, stream.semantic, stream.layout, stream.aspect)
        for stream in streams
    ]
    limit = rate.max_bytes or 0
    return [old if len(old) <= max(limit, len(new)) else new for old, new in zip(kept, coded, strict=True)]
