"""Pictures with what their streams decode to, and what happens when a picture is gone."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clip_feature_codec.decoders.conditions import read_conditions
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.errors import ConfigError, ImageError, StoreError
from clip_feature_codec.images import MAX_PIXELS, load_image, squash
from clip_feature_codec.places import is_url, split_archive
from clip_feature_codec.sources.original import read_original
from clip_feature_codec.store.manifest import IF_MOVED, Entry
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.train.cache import PictureCache

logger = logging.getLogger(__name__)

_LISTED = 20  # names in one warning


class Example(NamedTuple):
    """A picture and what a decoder may be told of it; a training draws one version of each condition.

    Attributes:
        image: (3, S, S) uint8.
        vectors: (V, D) float32, V >= 1: the vector as streams of V rates decode to it, unit length; zeros
            where a stream holds none.
        layouts: (W, 4, s, s) float32: the layout at W rates, as `layout_planes` gives it; no rows at all
            when the data have none.
    """

    image: Tensor
    vectors: Tensor
    layouts: Tensor


class PairDataset(Protocol):
    """What a decoder can be trained on."""

    @property
    def fingerprint(self) -> str:
        """Changes when the pairs do; a checkpoint is continued only with the data it was made from."""

    @property
    def unusable(self) -> frozenset[int]:
        """Indices known from the start to have no picture; they have been reported."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """The picture and its conditions; ImageError when there is no picture."""


class ArrayDataset:
    """Pairs held in memory.

    Args:
        images: (N, 3, S, S) uint8.
        vectors: float32, unit length: (N, D), or (N, V, D) for V versions of each.
        layouts: (N, W, 3, s, s) uint8 RGB, W versions of each picture's layout, if there are any.

    Raises:
        ConfigError: a shape or a dtype is another one.
    """

    unusable: frozenset[int] = frozenset()

    def __init__(
        self,
        images: NDArray[np.uint8],
        vectors: NDArray[np.float32],
        layouts: NDArray[np.uint8] | None = None,
    ) -> None:
        count = len(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ConfigError(f"pictures are {images.dtype} {images.shape}: expected uint8 (N, 3, S, S)")
        if vectors.dtype != np.float32 or vectors.ndim not in (2, 3) or len(vectors) != count:
            found = f"{vectors.dtype} {vectors.shape}"
            raise ConfigError(f"vectors are {found}: expected float32 ({count}, D) or ({count}, V, D)")
        arrays: list[NDArray[Any]] = [images, vectors] if layouts is None else [images, vectors, layouts]
        digest = hashlib.sha256(" ".join(str(array.shape) for array in arrays).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        self.fingerprint = digest.hexdigest()
        if layouts is None:
            layouts = np.empty((count, 0, 3, 1, 1), np.uint8)
        side = layouts.shape[-1]
        fits = layouts.shape == (count, *layouts.shape[1:2], 3, side, side)
        if layouts.dtype != np.uint8 or not fits:
            found = f"{layouts.dtype} {layouts.shape}"
            raise ConfigError(f"layouts are {found}: expected uint8 ({count}, W, 3, s, s)")
        self.images = torch.from_numpy(images)
        self.vectors = torch.from_numpy(vectors if vectors.ndim == 3 else vectors[:, None])
        self.layouts = torch.from_numpy(layouts)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        layouts = self.layouts[index]
        present = torch.ones(len(layouts), dtype=torch.bool)
        return Example(self.images[index], self.vectors[index], layout_planes(layouts, present))


class StoreDataset:
    """The pictures behind a store, squashed to a square, with what their streams decode to.

    Streams and pictures are read when they are asked for, by whatever process asks: nothing is held of each.
    A picture that has vanished since it was encoded, or has changed as far as its file tells, is reported by
    a warning and listed in ``unusable``: its stream would speak of something else.

    Args:
        store: an opened store.
        size: side of the pictures in pixels.
        layout: side of the layouts; 0 for none, and those that the streams hold are ignored.
        max_pixels: pictures with more pixels fail.
        cache: where pictures are kept at their size from the first time that they are read.

    Raises:
        MissingLayerError: a stream holds a layout alone, and ``layout`` is 0.
    """

    def __init__(
        self,
        store: Store,
        size: int,
        layout: int = 0,
        max_pixels: int = MAX_PIXELS,
        cache: PictureCache | None = None,
    ) -> None:
        self.size, self.layout, self.max_pixels, self.cache = size, layout, max_pixels, cache
        self._folder = store.folder
        self._opened = os.getpid(), store, store.entries
        digest = hashlib.sha256(f"{size} {store.codec.tables_sha256}".encode())
        problems: dict[int, str] = {}
        ignored = 0
        for index, entry in enumerate(self._opened[2]):
            digest.update(f"\n{entry.name} {entry.sha256}".encode())
            ignored += self._check_layers(store, entry)
            # Only what files say of themselves is looked at: decoding a million pictures before the first
            # step would take hours, and what is broken without that is replaced when its turn comes.
            place = store.source_place(entry)
            if problem := _source_problem(place, entry):
                problems[index] = f"{place}: {problem}"
        self._count = len(self._opened[2])
        self.fingerprint = digest.hexdigest()
        self.unusable = frozenset(problems)
        _report(list(problems.values()), ignored, self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """The picture and its conditions.

        Raises:
            ImageError: the picture cannot be read.
            BitstreamError: its stream is damaged.
        """
        store, entries = self._here()
        entry = entries[index]
        image = torch.from_numpy(self._picture(store, entry, index)).permute(2, 0, 1)
        told = read_conditions([store.read(entry)], store.codec, self.layout)
        vectors = torch.from_numpy(told.vectors)
        if told.layouts is None:
            return Example(image, vectors, torch.zeros(0, 4, 1, 1))
        pictures = torch.from_numpy(told.layouts).permute(0, 3, 1, 2)
        return Example(image, vectors, layout_planes(pictures, torch.from_numpy(told.present)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (0, None, ())}  # opened again where it is unpickled

    def _here(self) -> tuple[Store, Sequence[Entry]]:
        """The store and its pictures, opened by this very process: a database is not shared with a parent."""
        process, store, entries = self._opened
        if process != os.getpid():
            store = open_store(self._folder)
            entries = store.entries
            self._opened = os.getpid(), store, entries
        return store, entries

    def _picture(self, store: Store, entry: Entry, index: int) -> NDArray[np.uint8]:
        """A picture at its size, (S, S, 3)."""
        place = store.source_place(entry)
        made_from = f"{entry.source} {entry.source_bytes} {entry.source_mtime_ns}"
        kept = self.cache.get(index, made_from) if self.cache else None
        if kept is not None:
            return kept
        picture = np.array(squash(load_image(read_original(place), self.max_pixels, place), self.size))
        if self.cache:
            self.cache.put(index, made_from, picture)
        return picture

    def _check_layers(self, store: Store, entry: Entry) -> bool:
        """Whether a stream holds a layout that is left out.

        Raises:
            MissingLayerError: it holds nothing else.
        """
        if self.layout:
            return False
        if entry.semantic_bytes and entry.layout_bytes is not None:
            return entry.layout_bytes > 0
        return read_conditions([store.read(entry)], store.codec, 0).ignored > 0


def _report(problems: Sequence[str], ignored: int, count: int) -> None:
    """Say in a line what is left out of a training, and in another why some pictures are."""
    if ignored:
        logger.info("%d of %d streams hold a layout that this training leaves out", ignored, count)
    if problems:
        listed = "; ".join(problems[:_LISTED])
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        logger.warning(
            "%d of %d pictures are left out of the training: %s%s", len(problems), count, listed, more
        )


def _source_problem(place: str, entry: Entry) -> str | None:
    if is_url(place):  # a question for each would take longer than the training
        return None
    archive, name = split_archive(place)
    try:
        status = Path(archive).stat()
        inside = bool(name) and not stat.S_ISDIR(status.st_mode)
        if name and not inside:
            status = Path(place).stat()
    except OSError as error:
        return f"vanished since it was encoded ({error.strerror}); if it has moved, {IF_MOVED}"
    if inside and status.st_mtime_ns != entry.source_mtime_ns:
        return "its archive changed since it was encoded: encode it again"
    if not inside and status.st_size != entry.source_bytes:
        size = f"{status.st_size} bytes, not {entry.source_bytes}"
        return f"changed since it was encoded ({size}): encode it again"
    return None


Row = tuple[Example, list[str]]
Batch = tuple[Tensor, Tensor, Tensor, list[str]]


class Pool(Dataset[Row]):
    """Some examples of a dataset, where the next one of them takes the place of one whose picture fails.

    An item is an example, and the reasons why others before it could not be taken; they travel with the
    batch so that the training's own process reports them, whatever process has met them.

    Args:
        dataset: the examples.
        indices: those that belong to this pool; unusable ones are left out.
    """

    def __init__(self, dataset: PairDataset, indices: Iterable[int]) -> None:
        self.dataset = dataset
        unusable = np.fromiter(dataset.unusable, np.int64)
        self.indices = np.setdiff1d(np.fromiter(indices, np.int64), unusable, assume_unique=True)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Row:
        """Give the example at ``position``, or the next one that can be read.

        Raises:
            StoreError: no picture of the pool can be read.
        """
        failures: list[str] = []
        for offset in range(len(self.indices)):
            try:
                example = self.dataset[int(self.indices[(position + offset) % len(self.indices)])]
            except ImageError as error:
                failures.append(str(error))
                continue
            return example, failures
        raise StoreError(f"none of the {len(self.indices)} pictures to train on can be read: {failures[0]}")


def collate(rows: list[Row]) -> Batch:
    """Stack rows of a `Pool`: the parts of an `Example` with a first axis for the rows, and all failures."""
    examples, failures = zip(*rows, strict=True)
    images, vectors, layouts = (torch.stack(part) for part in zip(*examples, strict=True))
    return images, vectors, layouts, [reason for found in failures for reason in found]
