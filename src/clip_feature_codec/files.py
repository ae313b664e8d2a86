"""Whole files or none: writing through a temporary name; and files' names as text."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MAKER = "clip-feature-codec"
"""The name under which this program's files say who made them."""

STDIO = Path("-")
"""Standard input or output, where one file is meant."""

_BLOCK = 4096  # bytes: a full disk may still have room for an empty file
_LONGEST_KIND = 16  # bytes of an ending that a temporary name shows

_NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""Surrogates: how Python holds a name's bytes that are not UTF-8 (PEP 383), and what JSON may say."""


@contextmanager
def atomic_writer(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name when the block ends without an error.

    A process killed inside the block leaves ``path`` as it was, and at worst a stray ``.tmp`` file. A link is
    followed; a pipe or a device such as ``/dev/null`` is written to as it is, since it can only be opened.

    Args:
        path: the file to write; its folder is made if it is missing.
        durable: also wait until the bytes are on the disk, so that not even a power cut tears the file.

    Raises:
        OSError: it cannot be written; ``filename`` is that of ``path``.
    """
    if _is_opened_only(path):
        with named(path), path.open("wb") as file:
            yield file
        return
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` for a file that takes its place when the block ends well.

    For those who open files themselves; see `atomic_writer` for the rest.

    Raises:
        OSError: it cannot be written; ``filename`` is that of ``path``.
    """
    path = path.resolve() if path.is_symlink() else path
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    with named(path):
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _is_opened_only(path: Path) -> bool:
    """Whether a path is a pipe or a device, in whose place nothing can be put."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let errors of the system name the file: a full disk names none, and a temporary name says nothing."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(".tmp"):
            error.filename = str(path)
        raise


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody has; never longer than a file system allows where ``path`` is not.

    Its last two endings tell what was being written: ``.5f0c1d2e.clp.tmp``.
    """
    kind = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_KIND else ""
    return path.with_name(f".{os.urandom(4).hex()}{kind}.tmp")


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all (see `atomic_writer`)."""
    with atomic_writer(path, durable=durable) as file:
        file.write(data)


def copy_atomic(source: Path, path: Path) -> None:
    """Write a copy of a file of any size to ``path``, which may be that file, whole or not at all."""
    from shutil import copyfileobj

    with source.open("rb") as file, atomic_writer(path) as copy:
        copyfileobj(file, copy)


def try_writing(path: Path) -> None:
    """Find out whether a file of this name can be written, by writing another one in its folder.

    Where there is no such folder yet, the nearest one above takes its part. Nothing is left behind.

    Raises:
        OSError: it cannot be written.
    """
    if _is_opened_only(path):
        return
    folder = next(above for above in path.resolve().parents if above.is_dir())
    tried = _temporary(folder / "tried")
    try:
        tried.write_bytes(bytes(_BLOCK))
    finally:
        tried.unlink(missing_ok=True)


def encodable(name: str) -> str:
    r"""A file's name as text that UTF-8 can hold: a byte that is none, as Linux allows, becomes ``\xe9``."""
    return _NOT_UTF8.sub(_escape, name)


def printable(name: str) -> str:
    """A file's name as text that does nothing to a terminal or a picture: ``?`` for what cannot be shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
