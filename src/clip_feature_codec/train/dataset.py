"""Pictures with what their streams decode to, and what happens when a picture is gone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clip_feature_codec.decoders.conditions import Conditions, read_conditions
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.errors import ConfigError, ImageError, StoreError
from clip_feature_codec.images import MAX_PIXELS, load_image, squash
from clip_feature_codec.store.manifest import IF_MOVED, Entry
from clip_feature_codec.store.protocol import Store

logger = logging.getLogger(__name__)

_LISTED = 20  # names in one warning
_READ_AT_ONCE = 1024  # streams, so that a large store's coefficients are never all in memory


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

    A picture that has vanished since it was encoded, or whose size in bytes is another one now, is reported
    by a warning and listed in ``unusable``: its stream would speak of something else.

    Args:
        store: an opened store.
        size: side of the pictures in pixels.
        layout: side of the layouts; 0 for none, and those that the streams hold are ignored.
        max_pixels: pictures with more pixels fail.

    Raises:
        MissingLayerError: a stream holds a layout alone, and ``layout`` is 0.
    """

    def __init__(self, store: Store, size: int, layout: int = 0, max_pixels: int = MAX_PIXELS) -> None:
        self.size, self.max_pixels = size, max_pixels
        self.entries = list(store.entries)
        self.sources = [store.source_path(entry) for entry in self.entries]
        # The dequantised vectors and layouts are what a decoder meets.
        self.conditions = _read_conditions(store, self.entries, layout)
        digest = hashlib.sha256(f"{size} {store.codec.tables_sha256}".encode())
        for entry in self.entries:
            digest.update(f"\n{entry.name} {entry.sha256}".encode())
        self.fingerprint = digest.hexdigest()
        self.unusable = self._check_sources()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Example:
        picture = np.array(squash(load_image(self.sources[index], self.max_pixels), self.size))
        image = torch.from_numpy(picture).permute(2, 0, 1)
        told, row = self.conditions, slice(index, index + 1)
        vectors = torch.from_numpy(told.vectors[row])
        if told.layouts is None:
            return Example(image, vectors, torch.zeros(0, 4, 1, 1))
        pictures = torch.from_numpy(told.layouts[row]).permute(0, 3, 1, 2)
        return Example(image, vectors, layout_planes(pictures, torch.from_numpy(told.present[row])))

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


def _read_conditions(store: Store, entries: Sequence[Entry], layout: int) -> Conditions:
    starts = range(0, max(1, len(entries)), _READ_AT_ONCE)
    groups = [entries[start : start + _READ_AT_ONCE] for start in starts]
    blocks = [
        read_conditions([store.read(entry) for entry in group], store.codec, layout) for group in groups
    ]
    conditions = Conditions.joined(blocks)
    if conditions.ignored:
        logger.info(
            "%d of %d streams hold a layout that this training leaves out", conditions.ignored, len(entries)
        )
    return conditions


def _source_problem(source: Path, entry: Entry) -> str | None:
    try:
        size = source.stat().st_size
    except OSError as error:
        return f"vanished since it was encoded ({error.strerror}); if it has moved, {IF_MOVED}"
    if size != entry.source_bytes:
        return f"changed since it was encoded ({size} bytes, not {entry.source_bytes}): encode it again"
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

    def __init__(self, dataset: PairDataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = [index for index in indices if index not in dataset.unusable]

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
                example = self.dataset[self.indices[(position + offset) % len(self.indices)]]
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
