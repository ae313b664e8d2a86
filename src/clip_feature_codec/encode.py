"""From a folder of pictures to a store, resumable: the result is the same however often it was killed.

A vector's last bits depend on the pictures that shared its batch. So batches are fixed chunks of the sorted
list, written down in a plan before the first is embedded; each chunk's vectors wait on disk until all are
there, then the tables are fitted (or the store's own are taken) and the streams are written. A run that
finds a plan goes on with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import ImageError, StoreError
from clip_feature_codec.files import atomic_writer, write_atomic
from clip_feature_codec.images import IMAGE_SUFFIXES, load_image
from clip_feature_codec.store.feature_store import CODEC_FILE, FeatureStore, NewPicture, exclusive

log = logging.getLogger(__name__)

BATCH_SIZE = 32
_WORK = ".encode"


@dataclass
class EncodeResult:
    """What `encode_folder` did.

    Attributes:
        store: the store, with everything that could be read.
        added: how many pictures were coded by this call (or by the interrupted ones that it finished).
        unchanged: how many were in the store already.
        failures: (path, reason) of each picture that could not be read.
    """

    store: FeatureStore
    added: int
    unchanged: int
    failures: list[tuple[str, str]]


def encode_folder(
    img_dir: Path,
    out_dir: Path,
    embedder: ClipEmbedder,
    codec: FeatureCodec | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    quiet: bool = True,
) -> EncodeResult:
    """Encode every picture in ``img_dir`` and the folders below it into the store ``out_dir``.

    Pictures that the store has already, unchanged, are left alone; changed ones are coded again. Files
    that cannot be read are listed in the result, and the rest is done.

    Args:
        img_dir: folder of pictures; files with other endings and hidden ones are passed over.
        out_dir: the store; made when it is missing, and passed over should it lie inside ``img_dir``.
        embedder: the CLIP model.
        codec: tables for a new store; without, they are fitted on its vectors. A store that is there
            keeps its own.
        batch_size: pictures per forward pass.
        workers: processes that read and resize pictures; by default all cores but one, at most 8.
        quiet: without a progress bar.

    Raises:
        StoreError: there is no picture, none can be read, or another process is writing to the store.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
    """
    if not img_dir.is_dir():
        raise StoreError(f"{img_dir} is not a folder of pictures")
    paths = _pictures(img_dir, out_dir)
    if not paths:
        raise StoreError(f"{img_dir}: no pictures there (files ending in {' '.join(sorted(IMAGE_SUFFIXES))})")
    with exclusive(out_dir):
        store = FeatureStore.open(out_dir) if (out_dir / CODEC_FILE).exists() else None
        tables = store.codec if store else codec
        if tables:
            tables.space.require_same(embedder.space, "the CLIP model for this store")
        todo = [path for path in paths if not (store and store.is_current(path))]
        if store and not todo:
            shutil.rmtree(out_dir / _WORK, ignore_errors=True)
            return EncodeResult(store, 0, len(paths), [])
        plan = _Plan.make(out_dir / _WORK, img_dir, todo, embedder.space.fingerprint, batch_size)
        _embed_chunks(plan, embedder, workers, quiet)
        return _settle(plan, store, codec, embedder, out_dir, unchanged=len(paths) - len(todo))


def _pictures(img_dir: Path, out_dir: Path) -> list[Path]:
    """All picture files below ``img_dir``, sorted by their path inside it."""
    found = []
    store = out_dir.resolve()
    for folder, subfolders, files in os.walk(img_dir, followlinks=False):
        here = Path(folder)
        subfolders[:] = [d for d in subfolders if not d.startswith(".") and (here / d).resolve() != store]
        found += [
            here / f for f in files if not f.startswith(".") and Path(f).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found, key=lambda path: path.relative_to(img_dir).as_posix())


@dataclass
class _Chunk:
    """The pictures of one batch that could be read, with their vectors, and those that could not."""

    vectors: np.ndarray
    pictures: list[NewPicture]
    failures: list[tuple[str, str]] = field(default_factory=list)


class _Plan:
    """Which pictures share a batch, and the finished batches: a folder that lives until the store is written."""

    def __init__(self, folder: Path, img_dir: Path, chunks: list[list[str]]) -> None:
        self.folder = folder
        self.img_dir = img_dir
        self.chunks = chunks

    @classmethod
    def make(
        cls, folder: Path, img_dir: Path, todo: Sequence[Path], fingerprint: str, batch_size: int
    ) -> _Plan:
        """Go on with the plan of an interrupted run, and add what is new as chunks of its own."""
        head = {"space": fingerprint, "img_dir": str(img_dir.resolve()), "batch_size": batch_size}
        names = [path.relative_to(img_dir).as_posix() for path in todo]
        chunks: list[list[str]] = []
        try:
            record = json.loads((folder / "plan.json").read_bytes())
            if {key: record[key] for key in head} == head:
                # Chunks that an interrupted run has settled already are no longer to do.
                chunks = [chunk for chunk in record["chunks"] if not set(chunk).isdisjoint(names)]
        except (OSError, ValueError, KeyError):
            pass
        if not chunks:
            shutil.rmtree(folder, ignore_errors=True)
        planned = {name for chunk in chunks for name in chunk}
        new = [name for name in names if name not in planned]
        chunks += [new[i : i + batch_size] for i in range(0, len(new), batch_size)]
        write_atomic(folder / "plan.json", json.dumps(head | {"chunks": chunks}).encode())
        return cls(folder, img_dir, chunks)

    def path(self, names: Sequence[str]) -> Path:
        """Where a chunk's vectors are kept: named after its pictures, whatever its place in the plan."""
        return self.folder / f"{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:32]}.npz"

    def save(self, names: Sequence[str], chunk: _Chunk) -> None:
        pictures = [
            [p.inside.as_posix(), p.width, p.height, p.source_bytes, p.source_mtime_ns]
            for p in chunk.pictures
        ]
        record = json.dumps({"pictures": pictures, "failures": chunk.failures})
        with atomic_writer(self.path(names)) as file:
            np.savez(file, vectors=chunk.vectors, record=np.frombuffer(record.encode(), np.uint8))

    def load(self, names: Sequence[str]) -> _Chunk | None:
        """A finished chunk, or None when there is none, or a picture has changed since."""
        try:
            with np.load(self.path(names), allow_pickle=False) as data:
                vectors, record = data["vectors"], json.loads(data["record"].tobytes())
        except (OSError, ValueError, KeyError):
            return None
        pictures = [
            NewPicture(self.img_dir / inside, PurePosixPath(inside), *numbers)
            for inside, *numbers in record["pictures"]
        ]
        for picture in pictures:
            try:
                status = picture.path.stat()
            except OSError:
                return None
            if (status.st_size, status.st_mtime_ns) != (picture.source_bytes, picture.source_mtime_ns):
                return None
        return _Chunk(vectors, pictures, [(name, reason) for name, reason in record["failures"]])


class _PictureFiles(Dataset[tuple[Any, ...]]):
    """Reads and preprocesses one picture: runs in worker processes."""

    def __init__(self, img_dir: Path, names: list[str], preprocess: Callable[..., torch.Tensor]) -> None:
        self.img_dir, self.names, self.preprocess = img_dir, names, preprocess

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[NewPicture, torch.Tensor] | tuple[str, str]:
        inside = self.names[index]
        path = self.img_dir / inside
        try:
            status = path.stat()
            picture = load_image(path)
        except OSError as error:
            return str(path), f"{path}: cannot be read: {error.strerror}"
        except ImageError as error:
            return str(path), str(error)
        size = picture.width, picture.height, status.st_size, status.st_mtime_ns
        return NewPicture(path, PurePosixPath(inside), *size), self.preprocess(picture)


def _embed_chunks(plan: _Plan, embedder: ClipEmbedder, workers: int | None, quiet: bool) -> None:
    """Embed every chunk of the plan whose vectors are not on disk yet."""
    names = [name for chunk in plan.chunks for name in chunk]
    starts = np.cumsum([0] + [len(chunk) for chunk in plan.chunks])
    open_chunks = [i for i, chunk in enumerate(plan.chunks) if plan.load(chunk) is None]
    loader = DataLoader(
        _PictureFiles(plan.img_dir, names, embedder.preprocess),
        batch_sampler=[range(starts[i], starts[i + 1]) for i in open_chunks],
        num_workers=min(8, max(1, (os.cpu_count() or 2) - 1)) if workers is None else workers,
        collate_fn=_sort_out,
        pin_memory=embedder.device.type == "cuda",
    )
    done = len(names) - sum(len(plan.chunks[i]) for i in open_chunks)
    with tqdm(total=len(names), initial=done, unit="img", desc="encoding", disable=quiet) as bar:
        for i, (pictures, pixels, failures) in zip(open_chunks, loader, strict=True):
            vectors = embedder.embed_batch(pixels) if pictures else np.zeros((0, embedder.dim), np.float32)
            plan.save(plan.chunks[i], _Chunk(vectors, pictures, failures))
            bar.update(len(plan.chunks[i]))


def _sort_out(rows: list[tuple[Any, Any]]) -> tuple[list[NewPicture], torch.Tensor, list[tuple[str, str]]]:
    read = [row for row in rows if isinstance(row[0], NewPicture)]
    failures = [row for row in rows if not isinstance(row[0], NewPicture)]
    return (
        [row[0] for row in read],
        torch.stack([row[1] for row in read]) if read else torch.empty(0),
        failures,
    )


def _settle(
    plan: _Plan,
    store: FeatureStore | None,
    codec: FeatureCodec | None,
    embedder: ClipEmbedder,
    out_dir: Path,
    unchanged: int,
) -> EncodeResult:
    """Write the streams of all finished chunks, in the plan's order, and throw the plan away."""
    failures = [failure for chunk in _finished(plan) for failure in chunk.failures]
    if store is None:
        if codec is None:
            vectors = np.concatenate([chunk.vectors for chunk in _finished(plan)])
            if not len(vectors):
                shutil.rmtree(plan.folder)
                raise StoreError(f"none of {len(failures)} pictures can be read; the first: {failures[0][1]}")
            codec = FeatureCodec.fit(vectors, embedder.space)
        store = FeatureStore.create(out_dir, codec)
    added = 0
    for chunk in _finished(plan):
        store.add(chunk.pictures, chunk.vectors)
        added += len(chunk.pictures)
    shutil.rmtree(plan.folder)
    return EncodeResult(store, added, unchanged, failures)


def _finished(plan: _Plan) -> Iterator[_Chunk]:
    for names in plan.chunks:
        chunk = plan.load(names)
        if chunk is not None:  # None: a picture changed a moment ago; the next run codes it
            yield chunk
