"""From a folder of pictures to a store, resumable: the result is the same however often it was killed.

A vector's last bits depend on the pictures that shared its batch. So batches are fixed chunks of the sorted
list, written down in a plan before the first is embedded; each chunk's vectors wait on disk until all are
there, then the tables are fitted (or the store's own are taken) and the streams are written. A run that
finds a plan goes on with it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.embed import Embedder, Preprocess
from clip_feature_codec.errors import ConfigError, ImageError, StoreError
from clip_feature_codec.images import IMAGE_SUFFIXES, MAX_PIXELS, load_image
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.preview import analyse
from clip_feature_codec.store.feature_store import FeatureStore, exclusive, remove_strays
from clip_feature_codec.store.pending import Chunk, NewPicture, Plan

BATCH_SIZE = 32
_WORK = ".encode"

T = TypeVar("T")


@dataclass
class EncodeResult:
    """What `encode_folder` did.

    Attributes:
        store: the store, with everything that could be read.
        added: how many pictures this call put into the store: new ones, and changed ones again.
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
    embedder: Embedder,
    codec: FeatureCodec | None = None,
    rate: Rate = DEFAULT_RATE,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
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
        rate: how large or how good the streams should be, and their layers; pictures that are in the store
            already keep theirs.
        batch_size: pictures per forward pass.
        workers: processes that read and resize pictures, at most 8 by default: all cores but one beside a
            GPU, a quarter of the cores where the CPU embeds (none below four: it then reads in between).
        max_pixels: pictures with more pixels are failures.
        quiet: without a progress bar.

    Raises:
        StoreError: there is no picture, or none can be read and there is no store yet, or another process
            is writing to the store.
        SpaceMismatchError: the store or ``codec`` belongs to another CLIP model.
        ConfigError: ``batch_size`` is below 1, or the rate cannot be met.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size: found {batch_size}, expected at least 1")
    if not img_dir.is_dir():
        raise StoreError(f"{img_dir} is not a folder of pictures")
    names = find_pictures(img_dir, out_dir)
    if not names:
        raise StoreError(f"{img_dir}: no pictures there (files ending in {' '.join(sorted(IMAGE_SUFFIXES))})")
    with exclusive(out_dir):
        work = out_dir / _WORK
        if work.exists():
            remove_strays(out_dir)
        store = FeatureStore.open(out_dir) if (out_dir / CODEC_FILE).exists() else None
        tables = store.codec if store else codec
        if tables:
            tables.space.require_same(embedder.space, "the CLIP model for this store")
        todo = [name for name in names if not (store and store.is_current(img_dir / name))]
        unchanged = len(names) - len(todo)
        if store and not todo:
            shutil.rmtree(work, ignore_errors=True)
            return EncodeResult(store, 0, unchanged, [])
        plan = Plan.make(work, img_dir, names, todo, embedder.space.fingerprint, rate.layers, batch_size)
        _embed_chunks(plan, embedder, rate.layers, workers, max_pixels, quiet)
        failures = [failure for chunk in plan.finished() for failure in chunk.failures]
        if store is None:
            store = _new_store(out_dir, plan, embedder, codec, failures)
        for chunk in plan.finished():
            if chunk.pictures:
                aspects = [picture.width / picture.height for picture in chunk.pictures]
                store.add(img_dir, chunk.pictures, Layers(chunk.vectors, chunk.layouts, aspects), rate)
        plan.remove()
    return EncodeResult(store, len(todo) - len(failures), unchanged, failures)


def find_pictures(img_dir: Path, out_dir: Path | None = None) -> list[str]:
    """All picture files below ``img_dir``, as sorted POSIX paths inside it.

    Args:
        img_dir: searched recursively; hidden files and folders are passed over.
        out_dir: passed over as well, should it lie inside.
    """
    found = []
    store = out_dir and out_dir.resolve()
    for folder, subfolders, files in os.walk(img_dir, followlinks=False):
        here = Path(folder)
        subfolders[:] = [d for d in subfolders if not d.startswith(".") and (here / d).resolve() != store]
        inside = here.relative_to(img_dir)
        found += [
            (inside / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def _embed_chunks(
    plan: Plan, embedder: Embedder, layers: str, workers: int | None, max_pixels: int, quiet: bool
) -> None:
    """Embed and analyse every chunk of the plan that is not on disk yet."""
    chunks = [names for names in plan.chunks if not plan.is_done(names)]
    if workers is None:
        workers = _default_workers(embedder.device)
    loader = DataLoader(
        _ChunkReader(plan.img_dir, chunks, embedder.preprocess, layers, max_pixels),
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        collate_fn=_keep,
        pin_memory=embedder.device.startswith("cuda"),
        generator=torch.Generator(),  # else the loader draws its seeds from torch's global one
    )
    total, ahead = sum(map(len, plan.chunks)), sum(map(len, chunks))
    with tqdm(total=total, initial=total - ahead, unit="img", desc="encoding", disable=quiet) as bar:
        for names, (pictures, pixels, layouts, failures) in zip(chunks, loader, strict=True):
            vectors = embedder.embed_batch(pixels) if len(pixels) else None
            plan.save(names, Chunk(pictures, vectors, layouts if len(layouts) else None, failures))
            bar.update(len(names))


def _default_workers(device: str) -> int:
    # Where the forward pass has every core, each reader that takes one makes the others wait for it.
    cores = usable_cores()
    return min(8, cores // 4 if device == "cpu" else max(1, cores - 1))


_Read = tuple[list[NewPicture], torch.Tensor, np.ndarray, list[tuple[str, str]]]


class _ChunkReader(Dataset[_Read]):
    """Reads, preprocesses and analyses the pictures of a chunk: runs in worker processes.

    An item is what is known of each picture, what its CLIP model sees (N, 3, S, S), its layout (N, L), and
    the failures. What ``layers`` does not need is empty.
    """

    def __init__(
        self,
        img_dir: Path,
        chunks: Sequence[Sequence[str]],
        preprocess: Preprocess,
        layers: str,
        max_pixels: int,
    ) -> None:
        self._img_dir, self._chunks, self._preprocess, self._layers = img_dir, chunks, preprocess, layers
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> _Read:
        pictures, pixels, layouts, failures = [], [], [], []
        for name in self._chunks[index]:
            path = self._img_dir / name
            try:
                new, picture = _read(name, path, self._max_pixels)
                row = None if self._layers == "layout" else self._preprocess(picture)
                layout = None if self._layers == "semantic" else analyse(picture)
            except ImageError as error:
                failures.append((str(path), str(error)))
            except Exception as error:  # whatever is wrong with one picture must not stop the others
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                failures.append((str(path), f"{path}: cannot be read: {reason or type(error).__name__}"))
            else:
                pictures.append(new)
                pixels += [] if row is None else [row]
                layouts += [] if layout is None else [layout]
        return (
            pictures,
            torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0),
            np.stack(layouts) if layouts else np.empty(0),
            failures,
        )


def _read(name: str, path: Path, max_pixels: int) -> tuple[NewPicture, Image.Image]:
    status = path.stat()  # before the pixels: a change in between is then seen by the next run
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: cannot be read: not a regular file")  # a pipe would block for ever
    picture = load_image(path, max_pixels=max_pixels)
    new = NewPicture(name, picture.width, picture.height, status.st_size, status.st_mtime_ns)
    return new, picture


def _keep(item: T) -> T:
    """A chunk as it was read; the loader's own conversion would turn its tuples into lists."""
    return item


def _new_store(
    out_dir: Path,
    plan: Plan,
    embedder: Embedder,
    codec: FeatureCodec | None,
    failures: Sequence[tuple[str, str]],
) -> FeatureStore:
    """Make a store for a plan whose vectors are there, with tables fitted on them unless they are given."""
    if not any(chunk.pictures for chunk in plan.finished()):
        plan.remove()
        raise StoreError(f"none of {len(failures)} pictures can be read; the first: {failures[0][1]}")
    if codec is None:
        vectors = [chunk.vectors for chunk in plan.finished() if chunk.vectors is not None]
        if not vectors:
            raise ConfigError("tables are fitted on vectors: name a codec to encode layouts alone")
        codec = FeatureCodec.fit(np.concatenate(vectors), embedder.space)
    return FeatureStore.create(out_dir, codec)
