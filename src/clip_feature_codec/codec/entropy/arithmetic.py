"""Arithmetic coding: symbols with integer probabilities to bytes and back.

A stream of bytes is a number in [0, 1), with zeros without end behind its last byte. Symbols narrow an
interval [low, low + range) down, each to its share of it (Martin, "Range encoding", 1979); bytes that can no
longer change but by a carry move out, and a carry is added to them. The stream is the shortest one in the
last interval, without trailing zeros, so it takes less than a byte more than the symbols' information. What
the decoder has read when it is through must be that very stream, or it is damaged.

A coder is int64 (4,), which the functions here change in place. Writing: low, range, bytes in the buffer,
unused. Reading: the stream's number less low, range, the place of the next byte, and 1 if the stream pointed
outside of every symbol's share.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.compiled import inlined
from clip_feature_codec.codec.entropy.magnitudes import PRECISION

Ints: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]

_TOTAL = 1 << PRECISION
_BYTES = 6  # of the number that are looked at together
_ONE = 1 << 8 * _BYTES
_BYTE = _ONE >> 8  # the range never falls below this


@inlined
def writer() -> Ints:
    """A coder at the start of an empty buffer."""
    return np.array([0, _ONE, 0, 0])


@inlined
def _carry(buffer: Bytes, size: int) -> None:
    """Add 1 to the number in ``buffer[:size]``, which is not all ones."""
    at = size - 1
    while buffer[at] == 255:
        buffer[at] = 0
        at -= 1
    buffer[at] += 1


@inlined
def push(coder: Ints, start: int, frequency: int, buffer: Bytes) -> None:
    """Code one symbol.

    Args:
        coder: from `writer`.
        start: where the symbol's part of 0 to 2^15 begins.
        frequency: and how long it is, 1 or more.
        buffer: uint8, with room for 2 bytes more.
    """
    share = coder[1] >> PRECISION
    low, width, size = coder[0] + share * start, share * frequency, coder[2]
    if low >= _ONE:
        low -= _ONE
        _carry(buffer, size)
    while width < _BYTE:
        buffer[size] = low // _BYTE
        size += 1
        low = (low & (_BYTE - 1)) << 8
        width <<= 8
    coder[0], coder[1], coder[2] = low, width, size


@inlined
def push_bits(coder: Ints, value: int, bits: int, buffer: Bytes) -> None:
    """Code ``bits`` equally likely bits, 0 to 15 of them, that spell ``value``."""
    push(coder, value << (PRECISION - bits), 1 << (PRECISION - bits), buffer)


@inlined
def flush(coder: Ints, buffer: Bytes) -> int:
    """End the stream, which is then ``buffer[:size]``.

    Returns:
        The size.
    """
    low, size = coder[0], coder[2]
    if low > 0:
        if low + coder[1] > _ONE:
            _carry(buffer, size)  # up to the next multiple of 1
        else:
            buffer[size] = (low + _BYTE - 1) // _BYTE
            size += 1
    while size > 0 and buffer[size - 1] == 0:
        size -= 1
    return int(size)


@inlined
def reader(data: Bytes, begin: int, end: int) -> Ints:
    """A coder at the start of the stream ``data[begin:end]``."""
    number = np.int64(0)
    for at in range(begin, begin + _BYTES):
        number = number << 8 | (np.int64(data[at]) if at < end else 0)
    return np.array([number, _ONE, begin + _BYTES, 0])


@inlined
def _slot(coder: Ints) -> int:
    """Where in 0 to 2^15 - 1 the number points to."""
    share = coder[1] >> PRECISION
    slot = coder[0] // share
    if slot >= _TOTAL:  # what is left of the range above the last share
        slot = _TOTAL - 1
        coder[0] = share * _TOTAL - 1
        coder[3] = 1
    return int(slot)


@inlined
def _narrow(coder: Ints, start: int, frequency: int, data: Bytes, end: int) -> None:
    """Take a symbol's share."""
    share = coder[1] >> PRECISION
    number, width, at = coder[0] - share * start, share * frequency, coder[2]
    while width < _BYTE:
        number = number << 8 | (np.int64(data[at]) if at < end else 0)
        width <<= 8
        at += 1
    coder[0], coder[1], coder[2] = number, width, at


@inlined
def pop(coder: Ints, starts: Ints, data: Bytes, end: int) -> int:
    """Decode one symbol.

    Args:
        coder: from `reader`.
        starts: int64 (symbols + 1,), from 0 to 2^15, strictly increasing.
        data: holds the stream.
        end: where it ends in it.
    """
    slot = _slot(coder)
    symbol = 0
    while starts[symbol + 1] <= slot:
        symbol += 1
    _narrow(coder, starts[symbol], starts[symbol + 1] - starts[symbol], data, end)
    return symbol


@inlined
def pop_bits(coder: Ints, bits: int, data: Bytes, end: int) -> int:
    """Decode what `push_bits` coded."""
    rest = PRECISION - bits
    value = _slot(coder) >> rest
    _narrow(coder, value << rest, 1 << rest, data, end)
    return value


@inlined
def complete(coder: Ints, data: Bytes, begin: int, end: int) -> bool:
    """Whether ``data[begin:end]`` is what `flush` gives for the symbols read: nothing more, less or other."""
    if coder[3] == 1 or (end > begin and data[end - 1] == 0):
        return False
    settled = coder[2] - _BYTES  # bytes before this place moved out before the end
    if end <= settled:
        return True
    if end > settled + 1:
        return False
    low = np.int64(data[settled]) * _BYTE - coder[0]
    return bool(low > 0 and coder[0] < _BYTE and low + coder[1] <= _ONE)
