"""One writer at a time, and what a killed one leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from clip_feature_codec.errors import StoreError

_WRITTEN_WHOLE = (".clp", ".json", ".index", ".sqlite", ".parquet")
"""Endings of the files of a store that get their name when they are complete."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the store in ``folder`` during the block.

    Raises:
        StoreError: another process is writing to it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StoreError(f"{folder}: another process is writing to this store: wait for it to end") from None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def remove_strays(folder: Path) -> None:
    """Remove the unfinished files that a killed writer left in a store; only inside `exclusive`."""
    for ending in _WRITTEN_WHOLE:
        for stray in folder.rglob(f".*{ending}.tmp"):
            stray.unlink(missing_ok=True)
