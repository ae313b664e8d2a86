"""The two quantisers that both layers use: what they stand for, what they cost, and how they are written.

Q0 has the even multiples of the step, Q1 the odd ones and zero. A coefficient is coded as a magnitude of the
one quantiser or the other, with a table that its level addresses, and a sign. Magnitudes that a table has no
symbol of their own for are told apart by bits behind it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.arithmetic import pop, pop_bits, push, push_bits
from clip_feature_codec.codec.entropy.compiled import compiled, inlined
from clip_feature_codec.codec.entropy.magnitudes import DIRECT, ESCAPE, FINE, ORIGIN, Magnitudes

Ints: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]

MAX_SYMBOL = 1 << 15  # magnitudes stay below this
ROOM = 10  # bytes that a coefficient takes at most, and that the end of a stream takes
FRACTION = 8  # targets and reconstructions count in 2^-8 of the step
_LAMBDA_BITS = 4


@inlined
def address(level: int) -> tuple[int, int]:
    """The table row of a level, and how many low bits of the magnitude are coded apart from it."""
    row = (level >> 1) + ORIGIN
    if row < DIRECT:
        return max(row, 0), 0
    return DIRECT + (row - DIRECT) % FINE, (row - DIRECT) // FINE + 1


@inlined
def point(k: int, quantiser: int, shift: int, centroids: Ints) -> int:
    """The value that a magnitude with its sign stands for, in 2^-8 of the step.

    Args:
        k: the magnitude with its sign.
        quantiser: 0 or 1.
        shift: low bits that are coded apart.
        centroids: int64 (20,), of the table's row and quantiser.
    """
    magnitude = abs(k)
    value = 0
    if magnitude > 0:
        value = (2 * magnitude - quantiser) << FRACTION
        if shift == 0:
            value += centroids[min(magnitude, ESCAPE)]
    return -value if k < 0 else value


@inlined
def branches(
    target: int, quantiser: int, row: int, weight: int, tables: Magnitudes
) -> tuple[int, int, int, int]:
    """The best even and the best odd magnitude of a quantiser: the two next to the target, and 0.

    Where `rare` says so, what `rare_branches` gives is right instead. The caller replaces it, since a branch
    in here would make the encoder half as fast again.

    Args:
        target: the coefficient's absolute value, in 2^-8 of the step.
        quantiser: 0 or 1.
        row: of the tables.
        weight: lambda, in 2^-12 of the step squared per bit.
        tables: the frozen tables.

    Returns:
        The prices of the even and the odd one, distortion + weight * rate; and the two.
    """
    lower = (target + (quantiser << FRACTION)) >> (FRACTION + 1)
    even, odd = min(lower + (lower & 1), ESCAPE), min(lower + 1 - (lower & 1), ESCAPE)
    error = target - tables.points[row, quantiser, even]
    error_odd = target - tables.points[row, quantiser, odd]
    price = error * error + (weight * tables.costs[row, quantiser, even] >> _LAMBDA_BITS)
    price_odd = error_odd * error_odd + (weight * tables.costs[row, quantiser, odd] >> _LAMBDA_BITS)
    price_zero = target * target + (weight * tables.costs[row, quantiser, 0] >> _LAMBDA_BITS)
    zero = (even == 2) & (price_zero < price)
    return min(price, price_zero if even == 2 else price), price_odd, even * (1 - zero), odd


@inlined
def rare(target: int, shift: int) -> bool:
    """Whether a magnitude near the target may be one that the tables have no symbol of its own for."""
    return shift > 0 or target >= (ESCAPE - 2) << (FRACTION + 1)


@compiled
def rare_branches(
    target: int, quantiser: int, row: int, shift: int, weight: int, tables: Magnitudes
) -> tuple[int, int, int, int]:
    """What `branches` gives, for all magnitudes but without 0; ``shift`` low bits are coded apart."""
    lower = min((target + (quantiser << FRACTION)) >> (FRACTION + 1), MAX_SYMBOL - 2)
    even, odd = lower + (lower & 1), lower + 1 - (lower & 1)
    price = _price(even, target, quantiser, row, shift, weight, tables)
    return price, _price(odd, target, quantiser, row, shift, weight, tables), even, odd


@inlined
def _price(
    magnitude: int, target: int, quantiser: int, row: int, shift: int, weight: int, tables: Magnitudes
) -> int:
    """Distortion + weight * rate of any magnitude."""
    symbol = min(magnitude >> shift, ESCAPE)
    bits = shift
    if symbol == ESCAPE:
        bits += 4
        rest = (magnitude >> shift) - ESCAPE + 1
        while rest > 1:
            rest >>= 1
            bits += 1
    elif symbol == 0 and magnitude > 0:
        bits += 1  # the sign, which the costs of the other symbols hold
    error = target - point(magnitude, quantiser, shift, tables.centroids[row, quantiser])
    length: int = tables.costs[row, quantiser, symbol] + (bits << 8)
    return error * error + (weight * length >> _LAMBDA_BITS)


@inlined
def put_magnitude(coder: Ints, k: int, shift: int, starts: Ints, buffer: Bytes) -> None:
    """Code a symbol: from its table, then escape, low bits and sign."""
    magnitude = abs(k)
    symbol = min(magnitude >> shift, ESCAPE)
    push(coder, starts[symbol], starts[symbol + 1] - starts[symbol], buffer)
    if symbol == ESCAPE:
        rest = (magnitude >> shift) - ESCAPE + 1
        bits = 0
        while rest >> (bits + 1) > 0:
            bits += 1
        push_bits(coder, bits, 4, buffer)
        push_bits(coder, rest - (1 << bits), bits, buffer)
    if shift > 0:
        push_bits(coder, magnitude & ((1 << shift) - 1), shift, buffer)
    if magnitude > 0:
        push_bits(coder, 1 if k < 0 else 0, 1, buffer)


@inlined
def take_magnitude(coder: Ints, shift: int, starts: Ints, data: Bytes, end: int) -> int:
    """Decode what `put_magnitude` coded; `MAX_SYMBOL` or more, or less than its opposite, is none of ours."""
    magnitude = pop(coder, starts, data, end)
    if magnitude == ESCAPE:
        bits = pop_bits(coder, 4, data, end)
        magnitude += (1 << bits) + pop_bits(coder, bits, data, end) - 1
    if shift > 0:
        magnitude = magnitude << shift | pop_bits(coder, shift, data, end)
    if magnitude > 0 and pop_bits(coder, 1, data, end) == 1:
        magnitude = -magnitude
    return magnitude
