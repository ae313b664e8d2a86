"""Pairs of a picture and the vector that its stream decodes to, and what happens when a picture is gone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clip_feature_codec.errors import ConfigError, ImageError, StoreError
from clip_feature_codec.images import load_image, squash
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry

logger = logging.getLogger(__name__)

_LISTED = 20  # names in one warning


class PairDataset(Protocol):
    """What a decoder can be trained on."""

    @property
    def fingerprint(self) -> str:
        """Changes when the pairs do; a checkpoint is continued only with the data it was made from."""

    @property
    def unusable(self) -> frozenset[int]:
        """Indices known from the start to have no picture; they have been reported."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Picture (3, S, S) uint8 and unit vector (D,) float32; ImageError when there is no picture."""


class ArrayDataset:
    """Pairs held in memory.

    Args:
        images: (N, 3, S, S) uint8.
        vectors: (N, D) float32, unit length.

    Raises:
        ConfigError: a shape or a dtype is another one.
    """

    unusable: frozenset[int] = frozenset()

    def __init__(self, images: NDArray[np.uint8], vectors: NDArray[np.float32]) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ConfigError(f"pictures are {images.dtype} {images.shape}: expected uint8 (N, 3, S, S)")
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(images):
            found = f"{vectors.dtype} {vectors.shape}"
            raise ConfigError(f"vectors are {found}: expected float32 ({len(images)}, D)")
        self.images = torch.from_numpy(images)
        self.vectors = torch.from_numpy(vectors)
        digest = hashlib.sha256(f"{images.shape} {vectors.shape}".encode())
        for array in (images, vectors):
            digest.update(np.ascontiguousarray(array).data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.vectors[index]


class StoreDataset:
    """The pictures behind a store, squashed to a square, with the vectors that their streams decode to.

    A picture that has vanished since it was encoded, or whose size in bytes is another one now, is reported
    by a warning and listed in ``unusable``: its vector would speak of something else.

    Args:
        store: an opened store.
        size: side of the square in pixels.
    """

    def __init__(self, store: FeatureStore, size: int) -> None:
        self.size = size
        self.entries = list(store.entries)
        self.sources = [store.source_path(entry) for entry in self.entries]
        # The dequantised vectors are what a decoder meets.
        self.vectors = torch.from_numpy(store.vectors(self.entries))
        digest = hashlib.sha256(f"{size} {store.codec.tables_sha256}".encode())
        for entry in self.entries:
            digest.update(f"\n{entry.name} {entry.sha256}".encode())
        self.fingerprint = digest.hexdigest()
        self.unusable = self._check_sources()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = np.array(squash(load_image(self.sources[index]), self.size))
        return torch.from_numpy(picture).permute(2, 0, 1), self.vectors[index]

    def _check_sources(self) -> frozenset[int]:
        # Only the files' sizes are looked at: decoding a million pictures before the first step would take
        # hours, and what is broken without a change of size is replaced when its turn comes.
        problems = {}
        for index, (source, entry) in enumerate(zip(self.sources, self.entries, strict=True)):
            problem = _source_problem(source, entry)
            if problem:
                problems[index] = f"{source}: {problem}"
        if problems:
            listed = "; ".join(list(problems.values())[:_LISTED])
            more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
            logger.warning(
                "%d of %d pictures are left out of the training: %s%s",
                *(len(problems), len(self.entries), listed, more),
            )
        return frozenset(problems)


def _source_problem(source: Path, entry: Entry) -> str | None:
    try:
        size = source.stat().st_size
    except OSError as error:
        return f"vanished since it was encoded ({error.strerror})"
    if size != entry.source_bytes:
        return f"changed since it was encoded ({size} bytes, not {entry.source_bytes}): encode it again"
    return None


Row = tuple[Tensor, Tensor, list[str]]


class Pool(Dataset[Row]):
    """Some pairs of a dataset, where the next one of them takes the place of one whose picture fails.

    An item is a picture, its vector, and the reasons why others before it could not be taken; they travel
    with the batch so that the training's own process reports them, whatever process has met them.

    Args:
        dataset: the pairs.
        indices: those that belong to this pool; unusable ones are left out.
    """

    def __init__(self, dataset: PairDataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = [index for index in indices if index not in dataset.unusable]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Row:
        """Give the pair at ``position``, or the next one that can be read.

        Raises:
            StoreError: no picture of the pool can be read.
        """
        failures: list[str] = []
        for offset in range(len(self.indices)):
            try:
                image, vector = self.dataset[self.indices[(position + offset) % len(self.indices)]]
            except ImageError as error:
                failures.append(str(error))
                continue
            return image, vector, failures
        raise StoreError(f"none of the {len(self.indices)} pictures to train on can be read: {failures[0]}")


def collate(rows: list[Row]) -> tuple[Tensor, Tensor, list[str]]:
    """Stack rows of a `Pool`: pictures (N, 3, S, S) uint8, vectors (N, D) float32, all failures."""
    images, vectors, failures = zip(*rows, strict=True)
    return torch.stack(images), torch.stack(vectors), [reason for found in failures for reason in found]
