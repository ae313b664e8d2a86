"""Embedding and coding pictures, a batch at a time, so that a killed run can be taken up again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.embed import Embedder
from clip_feature_codec.encode.attempts import Attempts
from clip_feature_codec.encode.batches import ArchiveBatches, Batch, Batches, Run, StoreKnown, digest
from clip_feature_codec.encode.chunks import Chunk, Chunks
from clip_feature_codec.encode.plan import Plan
from clip_feature_codec.encode.reading import BatchReader, read_batches
from clip_feature_codec.encode.work import BatchWork, CodedBatch, Elsewhere, require_possible
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.lazy import lazy
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress
from clip_feature_codec.sources.protocol import Source
from clip_feature_codec.store.locking import remove_strays
from clip_feature_codec.store.opening import create_store, open_store
from clip_feature_codec.store.writing import WritableStore

Item = TypeVar("Item", tuple[Batch, Chunk], CodedBatch)

_WORK = ".encode"
SAMPLE = 1 << 15
"""So many vectors, from all over the source, tables are fitted on where there are more."""


@dataclass
class Done:
    """What an encoding has done.

    Attributes:
        added, unchanged: how many pictures were put into the store, and were there already.
        failures: (place, reason) of the others, and of archives.
        skipped: how many files of archives are no pictures, by their endings.
        complete: whether every archive was read to its end.
    """

    added: int = 0
    unchanged: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    complete: bool = True


class EncodingJob:
    """Pictures of a source on their way to a store.

    Whether that can be done at all is found out here, before anything is made or embedded. The arguments are
    those of `encode_source`.

    Raises:
        ConfigError: there is no CLIP model where one is needed, or the byte budget cannot be met.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
    """

    def __init__(
        self,
        out_dir: Path,
        embedder: Embedder | None,
        codec: FeatureCodec | None,
        rate: Rate,
        packed: bool,
        batch_size: int,
        workers: int | None,
        max_pixels: int,
        progress: Progress,
        elsewhere: Elsewhere | None,
    ) -> None:
        self._elsewhere = elsewhere
        self._out_dir, self._rate, self._progress = out_dir, rate, progress
        self._packed, self._batch_size = packed, batch_size
        self._folder, self._max_pixels = (out_dir / _WORK).resolve(), max_pixels
        self._embedder = embedder if rate.layers != "layout" else None
        self._tables = FeatureCodec.load(out_dir / CODEC_FILE) if (out_dir / CODEC_FILE).exists() else codec
        if self._embedder is None and rate.layers != "layout":
            raise ConfigError(f"CLIP model: found none, expected one for layers {rate.layers!r}")
        if self._tables and embedder:
            self._tables.space.require_same(embedder.space, "the CLIP model for this store")
        if self._tables:
            self._space, limits = self._tables.space, self._tables
        elif self._embedder:
            self._space = self._embedder.space
            # What tables of this kind can do at least is the same whatever they are fitted on.
            limits = FeatureCodec.fit(np.eye(2, self._space.dim, dtype=np.float32), self._space)
        else:
            raise ConfigError("tables are fitted on vectors: name a codec to encode layouts alone")
        settings = digest([self._space.fingerprint, rate.layers, max_pixels])
        self._chunks, self._attempts = Chunks(self._folder, settings), Attempts(self._folder, settings)
        self._workers = workers
        self._limits = limits
        require_possible(rate, limits, [None])

    @lazy
    def _work(self) -> BatchWork:
        """How batches are done; made when there are any, since it loads the model's preprocessing."""
        preprocess = self._embedder.preprocess if self._embedder else None
        reader = BatchReader(preprocess, self._rate.layers != "semantic", self._max_pixels, self._attempts)
        return BatchWork(reader, self._rate, self._limits, self._chunks, self._attempts)

    def open_store(self) -> WritableStore | None:
        """Open the store that is there, without what a killed run has left in it."""
        if self._folder.exists():
            remove_strays(self._out_dir)
        if not (self._out_dir / CODEC_FILE).exists():
            return None
        store = open_store(self._out_dir)
        self._tables = store.codec
        return self._writer(store)

    def run(self, store: WritableStore | None, source: Source) -> tuple[WritableStore, Done]:
        """Code the pictures of a source that are not in the store as they are; give the store.

        Raises:
            StoreError: there is no store yet, and none of the pictures can be read.
            ConfigError: the rate cannot be met.
        """
        known = StoreKnown(store, f"{self._max_pixels}")
        batches: Batches
        if source.archived:
            batches = ArchiveBatches(source, known, self._batch_size)
        else:
            head = {"space": self._space.fingerprint, "layers": self._rate.layers}
            batches = Plan.make(self._folder, source, known, head, self._batch_size)
        done = Done()
        if self._tables:
            tables, coded = self._tables, self._encoded(batches, self._tables, known)
        else:
            tables, coded = self._fitted(batches, known)
        store = self._stored(store, tables, coded, known, done)
        if store is not None and not store.is_kept:
            store.finish()
        self._chunks.remove()
        done.unchanged += known.unchanged
        done.failures += known.failures
        if store is None:
            raise _none_readable(done.failures)
        return store, done

    def _encoded(self, batches: Batches, tables: FeatureCodec, known: StoreKnown) -> Iterable[CodedBatch]:
        """All batches, coded, in order."""
        if self._elsewhere is None:
            chunks = self._told(self._done(batches, batches.total), batches.total)
            return self._coded(tables, chunks)
        runs = batches.runs()
        coded = self._elsewhere.encoded(self._work, runs, tables) if runs else ()
        if batches.total is None:
            coded = (known.counted(*item) for item in coded)
        return self._told(coded, batches.total)

    def _coded(self, tables: FeatureCodec, chunks: Iterable[tuple[Batch, Chunk]]) -> Iterator[CodedBatch]:
        """Code chunks, on all cores, while the next is embedded."""
        return in_order(lambda item: self._work.encode(tables, item), chunks)

    def _stored(
        self,
        store: WritableStore | None,
        tables: FeatureCodec,
        coded: Iterable[CodedBatch],
        known: StoreKnown,
        done: Done,
    ) -> WritableStore | None:
        """Put streams into the store, which is made with the first."""
        of_part: list[tuple[str, str]] = []
        for batch, chunk, blobs in coded:
            failures = list(chunk.failures)
            if blobs:
                if store is None:
                    store = self._writer(create_store(self._out_dir, tables, packed=self._packed))
                failures += store.put(Path(), chunk.pictures, blobs)
            done.added += batch.open - len(failures)
            done.failures += failures
            of_part += failures
            if batch.ended:
                notes = batch.ended.notes
                done.failures += notes.failures
                done.skipped += notes.skipped
                done.complete &= notes.complete
                if store is not None and notes.complete:
                    store.finish_part(batch.ended.part.key, known.done(batch.ended, of_part))
                of_part = []
        return store

    def _fitted(self, batches: Batches, known: StoreKnown) -> tuple[FeatureCodec, Iterable[CodedBatch]]:
        """Embed a sample of the batches, keep it on disk, and fit tables on it; then code all batches.

        Raises:
            StoreError: none of the pictures of the sample can be read.
        """
        sample = batches.sample(max(1, SAMPLE // self._batch_size))
        stage = "encoding" if batches.total is None or batches.total <= SAMPLE else "sampling"
        total = None if batches.total is None else min(batches.total, SAMPLE)
        sampled = []
        for batch, chunk in self._told(self._embedded(sample, total), total, stage):
            if not batch.ended:
                self._chunks.save(batch.key, chunk)
            sampled.append(batch)
        found = [self._load(batch) for batch in sampled]
        rows = [chunk.vectors for chunk in found if chunk.vectors is not None]
        lengths = [chunk.lengths for chunk in found if chunk.lengths is not None]
        if not rows:
            failures = [failure for chunk in found for failure in chunk.failures]
            for batch in sampled:
                failures += batch.ended.notes.failures if batch.ended else []
            self._chunks.remove()
            raise _none_readable(failures)
        codec = FeatureCodec.fit(np.concatenate(rows), self._space)
        mean = float(np.concatenate(lengths).mean(dtype=np.float64)) if len(lengths) == len(rows) else None
        fitted = replace(codec, vector_length=mean)
        if batches.are_all(sampled):
            return fitted, self._coded(fitted, ((batch, self._load(batch)) for batch in sampled))
        return fitted, self._encoded(batches, fitted, known)

    def _embedded(self, runs: Sequence[Run], total: int | None) -> Iterator[tuple[Batch, Chunk]]:
        """The batches of runs, in order, here or elsewhere."""
        if self._elsewhere is None:
            return self._done((batch for run in runs for batch in run.batches()), total)
        return self._elsewhere.embedded(self._work, runs)

    def _load(self, batch: Batch) -> Chunk:
        """A batch's chunk, which was done before.

        Raises:
            StoreError: it is not there.
        """
        if batch.ended:
            return Chunk([], None, [])
        chunk = self._chunks.load(batch.key)
        if chunk is None:
            raise StoreError(f"{self._folder}: vectors have vanished or cannot be read: encode again")
        return chunk

    def _done(self, batches: Iterable[Batch], total: int | None) -> Iterator[tuple[Batch, Chunk]]:
        """Read and embed batches here, in order; those that an earlier run has done are read from disk.

        Args:
            batches: what is to be done; given back without their pictures.
            total: how many pictures there are in them.
        """
        waiting = iter(batches)
        first = next(waiting, None)
        if first is None:  # then no model is loaded
            return
        workers = default_workers(self._embedder) if self._workers is None else self._workers
        workers = workers if total is None else min(workers, -(-total // self._batch_size))
        kept: set[str] = set()

        def unread() -> Iterator[Batch]:
            for batch in chain([first], waiting):
                if self._chunks.current(batch.key, batch.pictures):
                    kept.add(batch.key)
                    yield replace(batch, pictures=[])
                else:
                    yield batch

        for batch, read in read_batches(unread(), self._work.read, workers):
            if batch.key in kept:
                kept.remove(batch.key)
                yield batch, self._load(batch)
            else:
                yield batch, self._work.embed(self._embedder, batch, read)

    def _told(self, items: Iterable[Item], total: int | None, stage: str = "encoding") -> Iterator[Item]:
        """The same items, and progress is told of the pictures in them, first of all that none is done."""
        count = failed = 0
        if total != 0:
            self._progress(stage, 0, total or 0)
        for item in items:
            yield item
            chunk = item[1]
            count += len(chunk.pictures) + len(chunk.failures)
            failed += len(chunk.failures)
            self._progress(stage, count, total or count, failed)

    def _writer(self, store: WritableStore) -> WritableStore:
        """The store, written to from where the work is done."""
        return store if self._elsewhere is None else self._elsewhere.writer(store)


def _none_readable(failures: Sequence[tuple[str, str]]) -> StoreError:
    if not failures:
        return StoreError("there is no picture in any of the archives")
    return StoreError(f"none of {len(failures)} pictures can be read; the first: {failures[0][1]}")


def default_workers(embedder: Embedder | None) -> int:
    """How many processes read pictures: at most 8.

    A quarter of the cores where the CPU embeds (none below four: pictures are then read in between), since
    each reader that takes a core makes the forward pass wait for it; else all cores but one.
    """
    cores = usable_cores()
    on_cpu = embedder is not None and embedder.device == "cpu"
    return min(8, cores // 4 if on_cpu else max(1, cores - 1))
