"""Streams as programs hold them: bytes, or the path of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from clip_feature_codec.arguments import describe
from clip_feature_codec.errors import BitstreamError, ConfigError

StreamSource: TypeAlias = bytes | bytearray | memoryview | str | Path
"""The bytes of a ``.clp`` file, or its path."""


def read_stream(source: StreamSource) -> bytes:
    """The bytes of a stream.

    Raises:
        BitstreamError: the file cannot be read.
        ConfigError: it is neither bytes nor a path.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | PathLike):
        raise ConfigError(f"stream: found {describe(source)}, expected bytes or the path of a .clp file")
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise BitstreamError(f"{source}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in it
        raise BitstreamError(f"{source!r}: cannot be read: {error}") from None


@contextmanager
def named(source: StreamSource) -> Iterator[None]:
    """Put the path of a stream, if it has one, in front of what the block finds to be wrong with it."""
    try:
        yield
    except BitstreamError as error:
        if isinstance(source, str | PathLike) and str(source) not in str(error):
            raise type(error)(f"{source}: {error}") from None
        raise
