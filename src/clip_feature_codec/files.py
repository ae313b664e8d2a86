"""Whole files or none: writing through a temporary name; and files' names as text."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_LONGEST_KIND = 16  # bytes of an ending that a temporary name shows

_NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""Surrogates: how Python holds a name's bytes that are not UTF-8 (PEP 383), and what JSON may say."""


@contextmanager
def atomic_writer(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name when the block ends without an error.

    A process killed inside the block leaves ``path`` as it was, and at worst a stray ``.tmp`` file.

    Args:
        path: the file to write; its folder is made if it is missing.
        durable: also wait until the bytes are on the disk, so that not even a power cut tears the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody has; never longer than a file system allows where ``path`` is not.

    Its last two endings tell what was being written: ``.5f0c1d2e.clp.tmp``.
    """
    kind = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_KIND else ""
    return path.with_name(f".{secrets.token_hex(4)}{kind}.tmp")


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all (see `atomic_writer`)."""
    with atomic_writer(path, durable=durable) as file:
        file.write(data)


def encodable(name: str) -> str:
    r"""A file's name as text that UTF-8 can hold: a byte that is none, as Linux allows, becomes ``\xe9``."""
    return _NOT_UTF8.sub(_escape, name)


def printable(name: str) -> str:
    """A file's name as text that does nothing to a terminal or a picture: ``?`` for what cannot be shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
