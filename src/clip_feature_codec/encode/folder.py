"""From a folder of pictures to a store, resumable: the result is the same however often it was killed.

A vector's last bits depend on the pictures that shared its batch. So batches are fixed chunks of the sorted
list, written down in a plan before the first is embedded. With tables that are known, each chunk is coded as
soon as it is embedded. Where they are to be fitted, the chunks wait on disk until all are there. A run that
finds a plan goes on with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.embed import Embedder
from clip_feature_codec.encode.job import EncodingJob
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.images import MAX_PIXELS, READ_SUFFIXES
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.sources.folder import FolderScan, count_kinds, scan_folder
from clip_feature_codec.store.locking import exclusive
from clip_feature_codec.store.pruning import sync_store
from clip_feature_codec.store.writing import WritableStore

BATCH_SIZE = 32


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

    store: WritableStore
    added: int
    unchanged: int
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    moved: int = 0
    removed: int = 0


def encode_folder(
    img_dir: Path,
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
) -> EncodeResult:
    """Encode every picture in ``img_dir`` and the folders below it into the store ``out_dir``.

    Pictures that the store has already, unchanged, are left alone; changed ones are coded again.

    Args:
        img_dir: folder of pictures (see `scan_folder`).
        out_dir: the store, made when it is missing.
        embedder: the CLIP model; None will do where the layout is the only layer.
        codec: tables for a new store, by default fitted on its vectors; one that is there keeps its own.
        rate: how large or how good new streams should be, and their layers.
        sync: also take out what was deleted from ``img_dir``, and follow what was moved in it.
        packed: make a packed store, where there is none yet.
        batch_size: pictures per forward pass.
        workers: processes that read pictures, by default by cores and device (see `default_workers`).
        max_pixels: pictures with more pixels are failures.
        progress: told of the pictures that are done.

    Raises:
        StoreError: there is no picture, or none can be read and there is no store yet, or another process
            is writing to the store.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
        ConfigError: the batch size or the rate cannot be, or a CLIP model is needed.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size: found {batch_size}, expected at least 1")
    scan = _pictures(img_dir, out_dir)
    job = EncodingJob(img_dir, out_dir, embedder, codec, rate, packed, workers, max_pixels, progress)
    with exclusive(out_dir):
        store = job.open_store()
        synced = sync_store(store, img_dir, scan.pictures) if sync and store is not None else (0, 0)
        todo = [name for name in scan.pictures if store is None or not store.is_current(img_dir / name)]
        store, failures = job.run(store, scan.pictures, todo, batch_size)
        store.finish()
    added, unchanged = len(todo) - len(failures), len(scan.pictures) - len(todo)
    return EncodeResult(store, added, unchanged, scan.failures + failures, scan.skipped, *synced)


def _pictures(img_dir: Path, out_dir: Path) -> FolderScan:
    """What there is in the folder.

    Raises:
        StoreError: it is no folder, or there is no picture.
    """
    if not img_dir.is_dir():
        raise StoreError(f"{img_dir} is not a folder of pictures")
    scan = scan_folder(img_dir, leave_out=out_dir)
    if scan.pictures:
        return scan
    if scan.failures:
        raise StoreError(f"{img_dir}: no pictures there; {scan.failures[0][1]}")
    found = f"found {count_kinds(scan.skipped)}, " if scan.skipped else ""
    raise StoreError(f"{img_dir}: no pictures there ({found}expected {' '.join(sorted(READ_SUFFIXES))})")
