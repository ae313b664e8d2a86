"""Reading pictures a batch at a time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.embed import Preprocess
from clip_feature_codec.encode.batches import Batch
from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import load_image
from clip_feature_codec.places import is_url
from clip_feature_codec.preview import analyse
from clip_feature_codec.sources.protocol import SourcePicture
from clip_feature_codec.sources.storage import read_files
from clip_feature_codec.store.writing import NewPicture

_AHEAD = 2  # batches that each process may be ahead of whoever takes them
_BYTES_AHEAD = 256 << 20  # of pictures that were read from archives, and wait to be decoded


@dataclass(frozen=True)
class ReadChunk:
    """A batch of pictures as it was read.

    Attributes:
        pictures: the N that could be read.
        pixels: what the CLIP model sees of them, float32 (N, 3, S, S); None when it need not.
        layouts: their layout coefficients, float32 (N, L); None when they need not be analysed.
        failures: (place, reason) of those that could not be read.
    """

    pictures: list[NewPicture]
    pixels: NDArray[np.float32] | None
    layouts: NDArray[np.float32] | None
    failures: list[tuple[str, str]]


def read_batches(
    batches: Iterable[Batch], read: BatchReader, workers: int
) -> Iterator[tuple[Batch, ReadChunk]]:
    """Read batches of pictures, in order, ahead of whoever takes them.

    Args:
        batches: what is to be read; given back without their pictures.
        read: how.
        workers: processes; 0 reads in this one, in between.
    """
    if not workers:
        for batch in batches:
            yield replace(batch, pictures=[]), read(batch.pictures)
        return
    pool = ProcessPoolExecutor(workers, initializer=_begin_worker)
    waiting: deque[tuple[Batch, int, Future[ReadChunk]]] = deque()
    held = 0
    try:
        for batch in batches:
            size = sum(len(picture.content or b"") for picture in batch.pictures)
            held += size
            waiting.append((replace(batch, pictures=[]), size, pool.submit(read, batch.pictures)))
            del batch  # or its pictures stay
            while len(waiting) > _AHEAD * workers or (held > _BYTES_AHEAD and waiting):
                first, size, future = waiting.popleft()
                held -= size
                yield first, future.result()
        for first, _, future in waiting:
            yield first, future.result()
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


class BatchReader:
    """Reads, preprocesses and analyses the pictures of a batch: travels to the worker processes.

    Args:
        preprocess: from a picture to what the CLIP model sees, (3, S, S); None when it need not.
        with_layouts: whether pictures are analysed.
        max_pixels: pictures with more pixels are failures.
    """

    def __init__(self, preprocess: Preprocess | None, with_layouts: bool, max_pixels: int) -> None:
        self._preprocess = preprocess
        self._with_layouts, self._max_pixels = with_layouts, max_pixels

    def __call__(self, found: Sequence[SourcePicture]) -> ReadChunk:
        """Read pictures of one part."""
        pictures, pixels, layouts, failures = [], [], [], []
        for one, content in zip(found, _contents(found), strict=True):
            place = one.place
            try:
                new, picture = _read(one, content, self._max_pixels)
                row = self._preprocess(picture) if self._preprocess else None
                layout = analyse(picture) if self._with_layouts else None
            except ImageError as error:
                failures.append((place, str(error)))
            except Exception as error:  # whatever is wrong with one picture must not stop the others  # noqa: BLE001
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                failures.append((place, f"{place}: cannot be read: {reason or type(error).__name__}"))
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


def _contents(found: Sequence[SourcePicture]) -> Sequence[bytes | Exception | None]:
    """What is in the pictures' files, of those that are not local; what is elsewhere is fetched at once."""
    urls = [one.place for one in found if one.content is None and is_url(one.place)]
    fetched = dict(zip(urls, read_files(urls), strict=True)) if urls else {}
    return [fetched.get(one.place) if one.content is None else one.content for one in found]


def _read(
    found: SourcePicture, content: bytes | Exception | None, max_pixels: int
) -> tuple[NewPicture, Image.Image]:
    if isinstance(content, Exception):
        raise content
    place, size, mtime_ns = found.place, found.size, found.mtime_ns
    if content is None:
        status = Path(place).stat()  # before the pixels: a change in between is then seen by the next run
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{place}: cannot be read: not a regular file")  # a pipe would block for ever
        size, mtime_ns = status.st_size, status.st_mtime_ns
    picture = load_image(Path(place) if content is None else content, max_pixels, place)
    return NewPicture(found.name, picture.width, picture.height, size, mtime_ns, place), picture
