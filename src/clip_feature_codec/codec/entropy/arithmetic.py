"""Arithmetic coding: symbols with integer probabilities to bytes and back.

A stream of bytes is a number in [0, 1), with zeros without end behind its last byte. Symbols narrow an
interval [low, low + range) down, each to its share of it (Martin, "Range encoding", 1979); bytes that can no
longer change but by a carry move out, and a carry is added to them. The stream is the shortest one in the
last interval, without trailing zeros, so it takes less than a byte more than the symbols' information. What
the decoder has read when it is through must be that very stream, or it is damaged.

The layers code each symbol with a table of its own: they include ``arithmetic.h``. Here is the coder alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.native import Bytes, Ints, address, loops, place

_FLUSHED = 8  # bytes that the end of a stream takes at most


def encode(parts: Ints) -> bytes:
    """The stream of symbols.

    Args:
        parts: int64 (n, 2), where each symbol's part of 0 to 2^15 begins, and how long it is, 1 or more.
    """
    buffer = np.empty(2 * len(parts) + _FLUSHED, np.uint8)
    size = loops().arithmetic_encode(
        address(parts, np.int64, len(parts), 2), len(parts), place(buffer, np.uint8, buffer.size)
    )
    return buffer[:size].tobytes()


def decode(data: Bytes, starts: NDArray[np.integer[Any]], count: int) -> tuple[Ints, bool]:
    """Symbols of a stream.

    Args:
        data: uint8 (bytes,).
        starts: integers (symbols + 1,), from 0 to 2^15, strictly increasing.
        count: how many symbols there are.

    Returns:
        int64 (count,), and whether the stream is what `encode` gives for them: nothing more, less or other.
    """
    symbols, parts = np.empty(count, np.int64), starts.astype(np.int32)
    whole = loops().arithmetic_decode(
        address(data, np.uint8, data.size),
        data.size,
        address(parts, np.int32, parts.size),
        count,
        place(symbols, np.int64, count),
    )
    return symbols, bool(whole)
