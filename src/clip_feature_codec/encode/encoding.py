"""From pictures to a store, resumable: the result is the same however often it was killed.

A vector's last bits depend on the pictures that shared its batch. So batches are fixed: of files, chunks of
the sorted list, written down in a plan before the first is embedded; in archives, by counting. With tables
that are known, each batch is coded as soon as it is embedded. Where they are to be fitted, batches from all
over the source wait on disk until there are enough to fit on. A run that finds a plan goes on with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.embed import Embedder
from clip_feature_codec.encode.job import EncodingJob
from clip_feature_codec.encode.work import Elsewhere
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images import MAX_PIXELS
from clip_feature_codec.places import is_url, split_archive
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.sources.archives import same_place
from clip_feature_codec.sources.files import FilesSource
from clip_feature_codec.sources.opening import open_source
from clip_feature_codec.sources.protocol import Source
from clip_feature_codec.store.locking import exclusive
from clip_feature_codec.store.pruning import sync_store
from clip_feature_codec.store.writing import WritableStore

BATCH_SIZE = 32


@dataclass
class EncodeResult:
    """What `encode_source` did.

    Attributes:
        store: the store, with everything that could be read.
        added: how many pictures this call put into the store: new ones, and changed ones again.
        unchanged: how many were in the store already.
        failures: (place, reason) of each picture that could not be read or stored, and of each folder and
            archive.
        skipped: names of what was listed and is no picture.
        skipped_inside: how many files of archives that were read are no pictures, by their endings.
        moved: how many pictures were found again in another place.
        removed: how many were taken out of the store, since they are gone.
    """

    store: WritableStore
    added: int
    unchanged: int
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    skipped_inside: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    removed: int = 0


def encode_source(
    source: str | Path,
    out_dir: Path,
    embedder: Embedder | None,
    codec: FeatureCodec | None = None,
    rate: Rate = DEFAULT_RATE,
    *,
    sync: bool = False,
    packed: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = silent,
    elsewhere: Elsewhere | None = None,
) -> EncodeResult:
    """Encode every picture of a source into the store ``out_dir``.

    Pictures that the store has already, unchanged, are left alone; changed ones are coded again.

    Args:
        source: a folder, tars, Parquet files, here or on object storage (see `open_source`).
        out_dir: the store, made when it is missing.
        embedder: the CLIP model; None will do where the layout is the only layer.
        codec: tables for a new store, by default fitted on its vectors, or a sample of them; one that is
            there keeps its own.
        rate: how large or how good new streams should be, and their layers.
        sync: also take out what is gone from the source, and follow what was moved in a folder.
        packed: make a packed store, where there is none yet.
        batch_size: pictures per forward pass.
        workers: processes that read pictures, by default by cores and device (see `default_workers`).
        max_pixels: pictures with more pixels are failures.
        progress: told of the pictures that are done.
        elsewhere: other machines that do the work; here the embedder then only says how pictures are read.

    Raises:
        StoreError: there is no picture, or none can be read and there is no store yet, or another process
            is writing to the store.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
        ConfigError: the batch size or the rate cannot be, or a CLIP model is needed.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size: found {batch_size}, expected at least 1")
    listed = open_source(str(source), leave_out=out_dir)
    job = EncodingJob(
        out_dir, embedder, codec, rate, packed, batch_size, workers, max_pixels, progress, elsewhere
    )
    with exclusive(out_dir):
        return _encode(job, listed, sync)


def _encode(job: EncodingJob, source: Source, sync: bool) -> EncodeResult:
    """Bring a store up to its source, while no other process writes to it."""
    folder = source if isinstance(source, FilesSource) and not is_url(source.root) else None
    store = job.open_store()
    moved = removed = 0
    if sync and folder is not None and store is not None:
        moved, removed = sync_store(store, Path(folder.root), folder.names)
    store, done = job.run(store, source)
    if sync and folder is None and done.complete:
        removed = _remove_gone(store, source, done.failures)
    store.finish()
    failures = source.failures + done.failures
    return EncodeResult(
        store, done.added, done.unchanged, failures, source.skipped, done.skipped, moved, removed
    )


def _remove_gone(store: WritableStore, source: Source, failures: Sequence[tuple[str, str]]) -> int:
    """Take pictures out that are no longer in a source of archives, or on object storage; give their number.

    What an archive has now has been read, and so has the archive's time; what has another is no longer in it.
    But of one that is damaged, and of a picture that is, nobody knows.
    """
    unknown = {same_place(place) for place, _ in failures}
    gone = []
    for entry in store.entries_below(source.root):
        place = store.source_place(entry)
        places = {same_place(place), same_place(split_archive(place)[0])}
        if unknown.isdisjoint(places) and not source.holds(place, entry.source_mtime_ns):
            gone.append(entry)
    store.remove(gone)
    return len(gone)
