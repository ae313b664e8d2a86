"""Streams of a store coded again by a cluster (see `store.transcoding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.distributed.blocks import NOTES, StoreReader, blocks
from clip_feature_codec.distributed.pipeline import Stage, run
from clip_feature_codec.distributed.shards import bulk_writer
from clip_feature_codec.encode.attempts import Attempts
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.transcoding import STREAMS_AT_ONCE, Coded, code_block
from clip_feature_codec.store.writing import WritableStore


class RayTranscoding:
    """Has `store.transcoding.transcode_store` work on the cluster that is connected.

    Args:
        out_dir: the new store, which has notes of what was begun until all is done.
    """

    def __init__(self, out_dir: Path) -> None:
        self._notes = out_dir.resolve() / NOTES

    def coded(self, store: Store, start: int, rate: Rate, codec: FeatureCodec) -> Iterator[Coded]:
        """The blocks of a store from an entry on, in order; streams that processes die of are failures."""
        count = len(store)
        attempts = Attempts(self._notes, f"{codec.tables_sha256} {rate}")
        make = partial(_coder, store.folder.resolve(), count, rate, codec, attempts)
        yield from run(blocks(count, STREAMS_AT_ONCE, start), Stage(make))
        attempts.remove()

    def writer(self, target: WritableStore) -> WritableStore:
        """The same store, its shards written by tasks."""
        return bulk_writer(target)


def _coder(
    folder: Path, count: int, rate: Rate, codec: FeatureCodec, attempts: Attempts
) -> Callable[[range], Coded]:
    reader = StoreReader(folder, count)

    def code(entries: Sequence[Entry]) -> Coded:
        failures: list[tuple[str, str]] = []
        streams = list(reader.store.whole_streams(failures, entries))
        return code_block((streams, failures), rate, reader.store.codec, codec)

    def code_what_can_be(block: range) -> Coded:
        (entries, failures, blobs), died = reader.attempt(attempts, block, "coded", code)
        return entries, failures + died, blobs

    return code_what_can_be
