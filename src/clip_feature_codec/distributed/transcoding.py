"""Streams of a store coded again by a cluster (see `store.transcoding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.distributed.blocks import StoreReader, blocks
from clip_feature_codec.distributed.pipeline import Stage, run
from clip_feature_codec.distributed.shards import bulk_writer
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.transcoding import STREAMS_AT_ONCE, Coded, code_block
from clip_feature_codec.store.writing import WritableStore


class RayTranscoding:
    """Has `store.transcoding.transcode_store` work on the cluster that is connected."""

    def coded(self, store: Store, start: int, rate: Rate, codec: FeatureCodec) -> Iterator[Coded]:
        """The blocks of a store from an entry on, in order."""
        count = len(store)
        make = partial(_coder, store.folder.resolve(), count, rate, codec)
        return run(blocks(count, STREAMS_AT_ONCE, start), Stage(make))

    def writer(self, target: WritableStore) -> WritableStore:
        """The same store, its shards written by tasks."""
        return bulk_writer(target)


def _coder(folder: Path, count: int, rate: Rate, codec: FeatureCodec) -> Callable[[range], Coded]:
    reader = StoreReader(folder, count)

    def code(block: range) -> Coded:
        ((streams, failures),) = reader.store.whole_blocks(reader.entries(block), len(block))
        return code_block((streams, failures), rate, reader.store.codec, codec)

    return code
