"""Whole files or none: writing through a temporary name, and hashing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_writer(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name when the block ends without an error.

    A process killed inside the block leaves ``path`` as it was, and at worst a stray ``.tmp`` file.

    Args:
        path: the file to write; its folder is made if it is missing.
        durable: also wait until the bytes are on the disk, so that not even a power cut tears the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all (see `atomic_writer`)."""
    with atomic_writer(path, durable=durable) as file:
        file.write(data)
