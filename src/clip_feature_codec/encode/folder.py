"""From a folder of pictures to a store, resumable: the result is the same however often it was killed.

A vector's last bits depend on the pictures that shared its batch. So batches are fixed chunks of the sorted
list, written down in a plan before the first is embedded. With tables that are known, each chunk is coded as
soon as it is embedded. Where they are to be fitted, the chunks wait on disk until all are there. A run that
finds a plan goes on with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clip_feature_codec.codec.budget import require_budget
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode.plan import Chunk, Plan
from clip_feature_codec.encode.reading import read_chunks
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.images import READ_SUFFIXES
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.sources.folder import FolderScan, count_kinds, scan_folder
from clip_feature_codec.store.feature_store import CODEC_FILE, FeatureStore
from clip_feature_codec.store.locking import exclusive, remove_strays
from clip_feature_codec.store.pruning import sync_store

BATCH_SIZE = 32
_WORK = ".encode"


@dataclass
class EncodeResult:
    """What `encode_folder` did.

    Attributes:
        store: the store, with everything that could be read.
        added: how many pictures this call put into the store: new ones, and changed ones again.
        unchanged: how many were in the store already.
        failures: (path, reason) of each picture that could not be read or stored, and of each folder.
        skipped: paths inside the folder of what is no picture.
        moved: how many pictures were found again in another place.
        removed: how many were taken out of the store, since they are gone.
    """

    store: FeatureStore
    added: int
    unchanged: int
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    moved: int = 0
    removed: int = 0


def encode_folder(
    img_dir: Path,
    out_dir: Path,
    embedder: ClipEmbedder | None,
    codec: FeatureCodec | None = None,
    rate: Rate = DEFAULT_RATE,
    *,
    sync: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    progress: Progress = silent,
) -> EncodeResult:
    """Encode every picture in ``img_dir`` and the folders below it into the store ``out_dir``.

    Pictures that the store has already, unchanged, are left alone; changed ones are coded again. Files
    that cannot be read are listed in the result, and the rest is done.

    Args:
        img_dir: folder of pictures (see `scan_folder`).
        out_dir: the store; made when it is missing, and passed over should it lie inside ``img_dir``.
        embedder: the CLIP model; None will do where the layout is the only layer.
        codec: tables for a new store; without, they are fitted on its vectors. A store that is there
            keeps its own.
        rate: how large or how good the streams should be, and their layers; pictures that are in the store
            already keep theirs.
        sync: also take out what was deleted from ``img_dir``, and follow what was moved in it.
        batch_size: pictures per forward pass.
        workers: processes that read and resize pictures, at most 8 by default: a quarter of the cores where
            the CPU embeds (none below four: it then reads in between), else all but one.
        progress: told of the pictures that are done.

    Raises:
        StoreError: there is no picture, or none can be read and there is no store yet, or another process
            is writing to the store.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
        ConfigError: ``batch_size`` is below 1, the rate cannot be met, or there is no CLIP model where one is
            needed.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size: found {batch_size}, expected at least 1")
    if not img_dir.is_dir():
        raise StoreError(f"{img_dir} is not a folder of pictures")
    scan = scan_folder(img_dir, leave_out=out_dir)
    if not scan.pictures:
        raise StoreError(f"{img_dir}: no pictures there ({_why_none(scan)})")
    job = _Job(img_dir, out_dir, embedder, codec, rate, workers, progress)
    with exclusive(out_dir):
        store = job.open_store()
        moved, removed = sync_store(store, img_dir, scan.pictures) if sync and store else (0, 0)
        todo = [name for name in scan.pictures if not (store and store.is_current(img_dir / name))]
        store, failures = job.run(store, scan.pictures, todo, batch_size)
    return EncodeResult(
        store=store,
        added=len(todo) - len(failures),
        unchanged=len(scan.pictures) - len(todo),
        failures=scan.failures + failures,
        skipped=scan.skipped,
        moved=moved,
        removed=removed,
    )


def _why_none(scan: FolderScan) -> str:
    if scan.failures:
        return scan.failures[0][1]
    others = f"{count_kinds(scan.skipped)}; " if scan.skipped else ""
    return f"{others}pictures end in {' '.join(sorted(READ_SUFFIXES))}, or begin like one"


class _Job:
    """An encoding; whether it can be done is found out before anything is made or embedded.

    Raises:
        ConfigError: there is no CLIP model where one is needed, or the byte budget cannot be met.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
    """

    def __init__(
        self,
        img_dir: Path,
        out_dir: Path,
        embedder: ClipEmbedder | None,
        codec: FeatureCodec | None,
        rate: Rate,
        workers: int | None,
        progress: Progress,
    ) -> None:
        self._img_dir, self._out_dir, self._rate, self._progress = img_dir, out_dir, rate, progress
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
        self._workers = _default_workers(self._embedder) if workers is None else workers
        self._require_budget([None])

    def open_store(self) -> FeatureStore | None:
        """Open the store that is there, without what a killed run has left in it."""
        if (self._out_dir / _WORK).exists():
            remove_strays(self._out_dir)
        if not (self._out_dir / CODEC_FILE).exists():
            return None
        store = FeatureStore.open(self._out_dir)
        self._tables = store.codec
        return store

    def run(
        self, store: FeatureStore | None, present: Sequence[str], todo: Sequence[str], batch_size: int
    ) -> tuple[FeatureStore, list[tuple[str, str]]]:
        """Code the pictures ``todo`` of those ``present``; give the store, and (path, reason) of what failed.

        Raises:
            StoreError: there is no store yet, and none of the pictures can be read.
            ConfigError: the rate cannot be met.
        """
        work, layers = self._out_dir / _WORK, self._rate.layers
        if store and not todo:
            shutil.rmtree(work, ignore_errors=True)
            return store, []
        plan = Plan.make(work, self._img_dir, present, todo, self._space.fingerprint, layers, batch_size)
        if self._tables:
            tables, chunks = self._tables, self._embedded(plan.chunks, len(todo))
        else:
            tables, chunks = self._fitted(plan), plan.finished()
        failures = []
        for chunk in chunks:
            failures += chunk.failures
            if chunk.layers is not None:
                blobs = tables.encode(chunk.layers, self._rate)
                if store is None:
                    store = FeatureStore.create(self._out_dir, tables)
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
        vectors = {
            place: chunk.vectors for place, names in enumerate(plan.chunks) if (chunk := plan.current(names))
        }
        places = [place for place in range(len(plan.chunks)) if place not in vectors]
        embedded = self._embedded([plan.chunks[place] for place in places], sum(map(len, plan.chunks)))
        for place, chunk in zip(places, embedded, strict=True):
            plan.save(plan.chunks[place], chunk)
            vectors[place] = chunk.vectors
        rows = [found for place in range(len(plan.chunks)) if (found := vectors[place]) is not None]
        if not rows:
            failures = [failure for chunk in plan.finished() for failure in chunk.failures]
            plan.remove()
            raise _none_readable(failures)
        return FeatureCodec.fit(np.concatenate(rows), self._space)

    def _embedded(self, chunks: Sequence[Sequence[str]], total: int) -> Iterator[Chunk]:
        """Read and embed chunks, in order, the last of ``total`` pictures."""
        preprocess = self._embedder.preprocess if self._embedder else None
        on_gpu = self._embedder is not None and str(self._embedder.device).startswith("cuda")
        with_layouts = self._rate.layers != "semantic"
        done = total - sum(map(len, chunks))
        self._progress("encoding", done, total)
        reads = read_chunks(self._img_dir, chunks, preprocess, with_layouts, self._workers, on_gpu)
        for names, read in zip(chunks, reads, strict=True):
            aspects = [picture.aspect for picture in read.pictures]
            self._require_budget(aspects)
            vectors = None
            if self._embedder and read.pixels is not None:
                vectors = self._embedder.embed_batch(read.pixels)
            layers = Layers(vectors, read.layouts, aspects) if read.pictures else None
            yield Chunk(read.pictures, layers, read.failures)
            done += len(names)
            self._progress("encoding", done, total)

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


def _default_workers(embedder: ClipEmbedder | None) -> int:
    # Where the forward pass has every core, each reader that takes one makes the others wait for it.
    cores = usable_cores()
    on_cpu = embedder is not None and str(embedder.device) == "cpu"
    return min(8, cores // 4 if on_cpu else max(1, cores - 1))
