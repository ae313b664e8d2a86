"""Reading pictures a batch at a time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.embed import Preprocess
from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image
from clip_feature_codec.preview import analyse
from clip_feature_codec.store.writing import NewPicture

_AHEAD = 2  # batches that each process may be ahead of whoever takes them


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
    pixels: NDArray[np.float32] | None
    layouts: NDArray[np.float32] | None
    failures: list[tuple[str, str]]


def read_chunks(
    img_dir: Path,
    chunks: Sequence[Sequence[str]],
    preprocess: Preprocess | None,
    with_layouts: bool,
    max_pixels: int,
    workers: int,
) -> Iterator[ReadChunk]:
    """Read batches of pictures, in order, ahead of whoever takes them.

    Args:
        img_dir: the folder that they are in.
        chunks: the batches, each a list of paths inside it.
        preprocess: from a picture to what the CLIP model sees, (3, S, S); None when it need not.
        with_layouts: whether pictures are analysed.
        max_pixels: pictures with more pixels are failures.
        workers: processes; 0 reads in this one, in between.
    """
    read = _ChunkReader(img_dir, preprocess, with_layouts, max_pixels)
    workers = min(workers, len(chunks))
    if not workers:
        yield from map(read, chunks)
        return
    pool = ProcessPoolExecutor(workers, initializer=_begin_worker)
    waiting: deque[Future[ReadChunk]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(read, chunk))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_worker() -> None:
    """Let a worker end with the process that it works for, and not before it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all: the other one decides
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _ChunkReader:
    """Reads, preprocesses and analyses the pictures of a batch: travels to the worker processes."""

    def __init__(
        self, img_dir: Path, preprocess: Preprocess | None, with_layouts: bool, max_pixels: int
    ) -> None:
        self._img_dir, self._preprocess = img_dir, preprocess
        self._with_layouts, self._max_pixels = with_layouts, max_pixels

    def __call__(self, names: Sequence[str]) -> ReadChunk:
        pictures, pixels, layouts, failures = [], [], [], []
        for name in names:
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
            np.stack(pixels) if pixels else None,
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
