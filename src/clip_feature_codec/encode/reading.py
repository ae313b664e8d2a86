"""Reading pictures a batch at a time, in processes of their own."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from clip_feature_codec.embed import Preprocess
from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image
from clip_feature_codec.preview import analyse
from clip_feature_codec.store.writing import NewPicture

T = TypeVar("T")


@dataclass(frozen=True)
class ReadChunk:
    """A batch of pictures as it was read.

    Attributes:
        pictures: the N that could be read.
        pixels: what the CLIP model sees of them, float32 (N, 3, S, S); None when it need not.
        layouts: their layout coefficients, float32 (N, L); None when they need not be analysed.
        failures: (path, reason) of those that could not be read.
    """

    pictures: list[NewPicture]
    pixels: torch.Tensor | None
    layouts: NDArray[np.float32] | None
    failures: list[tuple[str, str]]


def read_chunks(
    img_dir: Path,
    chunks: Sequence[Sequence[str]],
    preprocess: Preprocess | None,
    with_layouts: bool,
    max_pixels: int,
    workers: int,
    pin_memory: bool,
) -> Iterator[ReadChunk]:
    """Read batches of pictures, in order, ahead of whoever takes them.

    Args:
        img_dir: the folder that they are in.
        chunks: the batches, each a list of paths inside it.
        preprocess: from a picture to what the CLIP model sees, (3, S, S); None when it need not.
        with_layouts: whether pictures are analysed.
        max_pixels: pictures with more pixels are failures.
        workers: processes; 0 reads in this one, in between.
        pin_memory: put pixels where a GPU can fetch them.
    """
    loader = DataLoader(
        _ChunkReader(img_dir, chunks, preprocess, with_layouts, max_pixels),
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        collate_fn=_keep,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader draws its seeds from torch's global one
    )
    yield from loader


class _ChunkReader(Dataset[ReadChunk]):
    """Reads, preprocesses and analyses the pictures of a batch: runs in worker processes."""

    def __init__(
        self,
        img_dir: Path,
        chunks: Sequence[Sequence[str]],
        preprocess: Preprocess | None,
        with_layouts: bool,
        max_pixels: int,
    ) -> None:
        self._img_dir, self._chunks = img_dir, chunks
        self._preprocess, self._with_layouts = preprocess, with_layouts
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> ReadChunk:
        pictures, pixels, layouts, failures = [], [], [], []
        for name in self._chunks[index]:
            path = self._img_dir / name
            try:
                new, picture = _read(name, path, self._max_pixels)
                row = self._preprocess(picture) if self._preprocess else None
                layout = analyse(picture) if self._with_layouts else None
            except ImageError as error:
                failures.append((str(path), str(error)))
            except Exception as error:  # whatever is wrong with one picture must not stop the others  # noqa: BLE001
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                failures.append((str(path), f"{path}: cannot be read: {reason or type(error).__name__}"))
            else:
                pictures.append(new)
                pixels += [] if row is None else [row]
                layouts += [] if layout is None else [layout]
        return ReadChunk(
            pictures,
            torch.from_numpy(np.stack(pixels)) if pixels else None,
            np.stack(layouts) if layouts else None,
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
    """A chunk as it was read; the loader's own conversion would make lists and tensors of its parts."""
    return item
