"""Pictures of a source encoded by a cluster (see `encode`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.distributed.cluster import network_stage
from clip_feature_codec.distributed.pipeline import Stage, run
from clip_feature_codec.distributed.shards import bulk_writer
from clip_feature_codec.embed import Embedder
from clip_feature_codec.encode.batches import Batch, Run
from clip_feature_codec.encode.chunks import Chunk
from clip_feature_codec.encode.reading import ReadChunk
from clip_feature_codec.encode.work import BatchWork, CodedBatch
from clip_feature_codec.store.writing import WritableStore

_Read: TypeAlias = tuple[Batch, ReadChunk | Chunk]
"""A batch, without its pictures, and what was read of it, or what it became in an earlier run."""


class RayEncoding:
    """Has `encode.encode_source` work on the cluster that is connected.

    Pictures are read where there is a core, a run of batches at a time; embedded by processes that keep the
    model, each with a GPU or with cores; and coded where there is a core. A vector's last bits depend on how
    many threads a CPU embeds with: each process has as many as its cores.

    Args:
        load: loads the CLIP model; it can be pickled. None where the layout is the only layer.
        device: where the model runs (see `devices.pick_device`).
        cores: of each process that embeds without a GPU.
    """

    def __init__(self, load: Callable[[], Embedder] | None, device: str, cores: int = 1) -> None:
        self._load, self._device, self._cores = load, device, cores

    def embedded(self, work: BatchWork, runs: Sequence[Run]) -> Iterator[tuple[Batch, Chunk]]:
        """The batches of some runs, in order, without their pictures, and what they have become."""
        return run(runs, self._embedders(work), spread=partial(_read, work))

    def encoded(self, work: BatchWork, runs: Sequence[Run], tables: FeatureCodec) -> Iterator[CodedBatch]:
        """The same, and coded; the chunks without what they were coded from."""
        code = partial(_encode, work, tables)
        return run(runs, self._embedders(work), spread=partial(_read, work), finish=code)

    def writer(self, store: WritableStore) -> WritableStore:
        """The same store, its shards written by tasks."""
        return bulk_writer(store)

    def _embedders(self, work: BatchWork) -> Stage:
        make = partial(_embedder, work, self._load)
        return Stage(make) if self._load is None else network_stage(make, self._device, self._cores)


def _read(work: BatchWork, batches: Run) -> Iterator[_Read]:
    for batch in batches.batches():
        without = replace(batch, pictures=[])
        if work.chunks.current(batch.key, batch.pictures) and (chunk := work.chunks.load(batch.key)):
            yield without, chunk
        else:
            yield without, work.read(batch)


def _embedder(work: BatchWork, load: Callable[[], Embedder] | None) -> Callable[[_Read], tuple[Batch, Chunk]]:
    model = load() if load else None

    def embed(read: _Read) -> tuple[Batch, Chunk]:
        batch, found = read
        return batch, found if isinstance(found, Chunk) else work.embed(model, batch, found)

    return embed


def _encode(work: BatchWork, tables: FeatureCodec, item: tuple[Batch, Chunk]) -> CodedBatch:
    batch, chunk, blobs = work.encode(tables, item)
    return batch, replace(chunk, layers=None, lengths=None), blobs
