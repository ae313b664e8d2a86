"""Reading pictures a batch at a time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.embed import Preprocess
from clip_feature_codec.encode.attempts import DEATHS, Attempts
from clip_feature_codec.encode.batches import Batch
from clip_feature_codec.errors import ImageError, WorkerError
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
        pixels: what the CLIP model sees of them, float32 (N, 3, S, S); None when it need not, or N is 0.
        layouts: their layout coefficients, float32 (N, L); None when they need not be analysed, or N is 0.
        failures: (place, reason) of those that could not be read.
    """

    pictures: list[NewPicture]
    pixels: NDArray[np.float32] | None
    layouts: NDArray[np.float32] | None
    failures: list[tuple[str, str]]

    def only(self, numbers: Sequence[int]) -> ReadChunk:
        """The same with some of its pictures."""
        if len(numbers) == len(self.pictures):
            return self
        chosen = list(numbers)
        return ReadChunk(
            [self.pictures[i] for i in chosen],
            None if self.pixels is None or not chosen else self.pixels[chosen],
            None if self.layouts is None or not chosen else self.layouts[chosen],
            self.failures,
        )


def read_batches(
    batches: Iterable[Batch], read: BatchReader, workers: int
) -> Iterator[tuple[Batch, ReadChunk]]:
    """Read batches of pictures, in order, ahead of whoever takes them.

    A process that dies is replaced, and a picture that it dies of over and over is a failure (see
    `attempts`). Without processes it is this one that dies; run again, it leaves that batch to another.

    Args:
        batches: what is to be read; given back without their pictures.
        read: how.
        workers: processes; 0 reads in this one, in between.
    """
    if not workers:
        for batch in batches:
            yield replace(batch, pictures=[]), _survived(batch, read) if read.died(batch) else read(batch)
        return
    pool = _Pool(workers)
    waiting: deque[tuple[Batch, Future[ReadChunk]]] = deque()
    held = 0

    def first() -> tuple[Batch, ReadChunk]:
        nonlocal held
        batch, future = waiting.popleft()
        held -= _bytes(batch)
        try:
            chunk = future.result()
        except BrokenProcessPool:  # one has died, and so all were ended: whose work it was, nobody knows
            chunk = _survived(batch, read)
        return replace(batch, pictures=[]), chunk

    try:
        for batch in batches:
            held += _bytes(batch)
            waiting.append((batch, pool.submit(read, batch)))
            del batch  # or its pictures stay
            while len(waiting) > _AHEAD * workers or (held > _BYTES_AHEAD and waiting):
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown()


class _Pool:
    """Processes that read; others, when one of them has died.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = ProcessPoolExecutor(workers, initializer=_begin_worker)

    def submit(self, read: BatchReader, batch: Batch) -> Future[ReadChunk]:
        """Have a batch read. The result raises `BrokenProcessPool` where a process dies, whichever."""
        try:
            return self._pool.submit(read, batch)
        except BrokenProcessPool:
            self._pool = ProcessPoolExecutor(self._workers, initializer=_begin_worker)
            return self._pool.submit(read, batch)

    def shutdown(self) -> None:
        """End them, whatever they do."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _survived(batch: Batch, read: BatchReader) -> ReadChunk:
    """What is read of a batch by a process that survives it: it is given to one after another.

    Raises:
        WorkerError: they die of something else than its pictures.
    """
    pool = _Pool(1)
    try:
        for _ in range(DEATHS * (len(batch.pictures) + 3)):  # more than can be the pictures' doing
            try:
                return pool.submit(read, batch).result()
            except BrokenProcessPool:
                continue
    finally:
        pool.shutdown()
    raise WorkerError("processes that read pictures die, whatever they read: there may be too little memory")


def _bytes(batch: Batch) -> int:
    return sum(len(picture.content or b"") for picture in batch.pictures)


def _begin_worker() -> None:
    """Let a worker end with the process that it works for, and not before it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all: the other one decides
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the threads that the other one may have used by now were not forked
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
        attempts: notes of what was begun.
    """

    def __init__(
        self, preprocess: Preprocess | None, with_layouts: bool, max_pixels: int, attempts: Attempts
    ) -> None:
        self._preprocess = preprocess
        self._with_layouts, self._max_pixels = with_layouts, max_pixels
        self._attempts = attempts

    def __call__(self, batch: Batch) -> ReadChunk:
        """Read the pictures of a batch; those that processes die of are failures."""
        found = batch.pictures
        places = [picture.place for picture in found]
        read, died = self._attempts.run(
            _state(batch), "read", places, lambda numbers: self._read([found[i] for i in numbers])
        )
        return replace(read, failures=read.failures + died)

    def died(self, batch: Batch) -> bool:
        """Whether a process has ended while it read a batch."""
        return self._attempts.died(_state(batch), "read")

    def _read(self, found: Sequence[SourcePicture]) -> ReadChunk:
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


def _state(batch: Batch) -> list[object]:
    """Which batch, and its pictures as they are now."""
    return [batch.key, [(picture.size, picture.mtime_ns) for picture in batch.pictures]]


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
