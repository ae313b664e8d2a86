"""Embedding and coding pictures, a batch at a time, so that a killed run can be taken up again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clip_feature_codec.codec.budget import require_budget
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.embed import Embedder, measured
from clip_feature_codec.encode.plan import Chunk, Plan
from clip_feature_codec.encode.reading import read_chunks
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress
from clip_feature_codec.store.locking import remove_strays
from clip_feature_codec.store.opening import create_store, open_store
from clip_feature_codec.store.writing import WritableStore

_WORK = ".encode"


class EncodingJob:
    """Pictures of a folder on their way to a store.

    Whether that can be done at all is found out here, before anything is made or embedded. The arguments are
    those of `encode_folder`.

    Raises:
        ConfigError: there is no CLIP model where one is needed, or the byte budget cannot be met.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
    """

    def __init__(
        self,
        img_dir: Path,
        out_dir: Path,
        embedder: Embedder | None,
        codec: FeatureCodec | None,
        rate: Rate,
        packed: bool,
        workers: int | None,
        max_pixels: int,
        progress: Progress,
    ) -> None:
        self._img_dir, self._out_dir, self._rate, self._progress = img_dir, out_dir, rate, progress
        self._packed = packed
        self._work, self._max_pixels = out_dir / _WORK, max_pixels
        self._embedder = embedder if rate.layers != "layout" else None
        self._tables = FeatureCodec.load(out_dir / CODEC_FILE) if (out_dir / CODEC_FILE).exists() else codec
        if self._embedder is None and rate.layers != "layout":
            raise ConfigError(f"CLIP model: found none, expected one for layers {rate.layers!r}")
        if self._tables and embedder:
            self._tables.space.require_same(embedder.space, "the CLIP model for this store")
        if self._tables:
            self._space, self._limits = self._tables.space, self._tables
        elif self._embedder:
            self._space = self._embedder.space
            # What tables of this kind can do at least is the same whatever they are fitted on.
            self._limits = FeatureCodec.fit(np.eye(2, self._space.dim, dtype=np.float32), self._space)
        else:
            raise ConfigError("tables are fitted on vectors: name a codec to encode layouts alone")
        self._workers = workers
        self._require_budget([None])

    def open_store(self) -> WritableStore | None:
        """Open the store that is there, without what a killed run has left in it."""
        if self._work.exists():
            remove_strays(self._out_dir)
        if not (self._out_dir / CODEC_FILE).exists():
            return None
        store = open_store(self._out_dir)
        self._tables = store.codec
        return store

    def run(
        self, store: WritableStore | None, present: Sequence[str], todo: Sequence[str], batch_size: int
    ) -> tuple[WritableStore, list[tuple[str, str]]]:
        """Code the pictures ``todo`` of those ``present``; give the store, and (path, reason) of what failed.

        Raises:
            StoreError: there is no store yet, and none of the pictures can be read.
            ConfigError: the rate cannot be met.
        """
        if store is not None and not todo:
            shutil.rmtree(self._work, ignore_errors=True)
            return store, []
        fingerprint, layers = self._space.fingerprint, self._rate.layers
        plan = Plan.make(self._work, self._img_dir, present, todo, fingerprint, layers, batch_size)
        if self._tables:
            tables, chunks = self._tables, self._embedded(plan.chunks, plan)
        else:
            tables, chunks = self._fitted(plan), plan.finished()

        def code(chunk: Chunk) -> tuple[Chunk, list[bytes]]:
            return chunk, [] if chunk.layers is None else tables.encode(chunk.layers, self._rate)

        failures = []
        for chunk, blobs in in_order(code, chunks):  # while the next is embedded
            failures += chunk.failures
            if blobs:
                if store is None:
                    store = create_store(self._out_dir, tables, packed=self._packed)
                failures += store.put(self._img_dir, chunk.pictures, blobs)
        plan.remove()
        if store is None:
            raise _none_readable(failures)
        return store, failures

    def _fitted(self, plan: Plan) -> FeatureCodec:
        """Embed what is not done yet, keep it with the plan, and fit tables on all vectors.

        Raises:
            StoreError: none of the pictures can be read.
        """
        done = {
            place: (chunk.vectors, chunk.lengths)
            for place, names in enumerate(plan.chunks)
            if (chunk := plan.current(names))
        }
        places = [place for place in range(len(plan.chunks)) if place not in done]
        embedded = self._embedded([plan.chunks[place] for place in places], plan)
        for place, chunk in zip(places, embedded, strict=True):
            plan.save(plan.chunks[place], chunk)
            done[place] = chunk.vectors, chunk.lengths
        embeds = [done[place] for place in range(len(plan.chunks))]
        rows = [vectors for vectors, _ in embeds if vectors is not None]
        lengths = [found for _, found in embeds if found is not None]
        if not rows:
            failures = [failure for chunk in plan.finished() for failure in chunk.failures]
            plan.remove()
            raise _none_readable(failures)
        codec = FeatureCodec.fit(np.concatenate(rows), self._space)
        mean = float(np.concatenate(lengths).mean(dtype=np.float64)) if len(lengths) == len(rows) else None
        return replace(codec, vector_length=mean)

    def _embedded(self, chunks: Sequence[Sequence[str]], plan: Plan) -> Iterator[Chunk]:
        """Read and embed some chunks of a plan, in order."""
        preprocess = self._embedder.preprocess if self._embedder else None
        workers = default_workers(self._embedder) if self._workers is None else self._workers
        with_layouts = self._rate.layers != "semantic"
        total = sum(map(len, plan.chunks))
        done = total - sum(map(len, chunks))
        failed = 0
        self._progress("encoding", done, total)
        reads = read_chunks(self._img_dir, chunks, preprocess, with_layouts, self._max_pixels, workers)
        for names, read in zip(chunks, reads, strict=True):
            aspects = [picture.aspect for picture in read.pictures]
            self._require_budget(aspects)
            vectors = lengths = None
            if self._embedder and read.pixels is not None:
                vectors, lengths = measured(self._embedder, read.pixels)
            layers = Layers(vectors, read.layouts, aspects) if read.pictures else None
            yield Chunk(read.pictures, layers, read.failures, lengths)
            done += len(names)
            failed += len(read.failures)
            self._progress("encoding", done, total, failed)

    def _require_budget(self, aspects: Sequence[float | None]) -> None:
        """Find out before anything is embedded whether the byte budget is too small.

        Raises:
            ConfigError: it is.
        """
        if self._rate.max_bytes is not None:
            for aspect in aspects:
                require_budget(self._rate.max_bytes, self._limits.smallest(self._rate.layers, aspect))


def _none_readable(failures: Sequence[tuple[str, str]]) -> StoreError:
    return StoreError(f"none of {len(failures)} pictures can be read; the first: {failures[0][1]}")


def default_workers(embedder: Embedder | None) -> int:
    """How many processes read pictures: at most 8.

    A quarter of the cores where the CPU embeds (none below four: pictures are then read in between), since
    each reader that takes a core makes the forward pass wait for it; else all cores but one.
    """
    cores = usable_cores()
    on_cpu = embedder is not None and embedder.device == "cpu"
    return min(8, cores // 4 if on_cpu else max(1, cores - 1))
