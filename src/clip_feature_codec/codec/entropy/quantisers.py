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
from clip_feature_codec.codec.entropy.compiled import compiled
from clip_feature_codec.codec.entropy.magnitudes import DIRECT, ESCAPE, FINE, ORIGIN, Magnitudes

Ints: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]

MAX_SYMBOL = 1 << 15  # magnitudes stay below this
ROOM = 10  # bytes that a coefficient takes at most, and that the end of a stream takes
FRACTION = 8  # targets and reconstructions count in 2^-8 of the step
_LAMBDA_BITS = 4


@compiled
def address(level: int) -> tuple[int, int]:
    """The table row of a level, and how many low bits of the magnitude are coded apart from it."""
    row = (level >> 1) + ORIGIN
    if row < DIRECT:
        return max(row, 0), 0
    return DIRECT + (row - DIRECT) % FINE, (row - DIRECT) // FINE + 1


@compiled
def point(magnitude: int, quantiser: int, symbol: int, shift: int, centroids: Ints) -> int:
    """The value that a magnitude stands for, in 2^-8 of the step; ``centroids`` are those of its table."""
    if magnitude == 0:
        return 0
    value = (2 * magnitude - quantiser) << FRACTION
    return value + centroids[symbol] if shift == 0 else value


@compiled
def _rare_price(
    k: int, target: int, quantiser: int, row: int, shift: int, weight: int, tables: Magnitudes
) -> int:
    """What `branches` looks up for common magnitudes, computed."""
    symbol = min(k >> shift, ESCAPE)
    bits = shift
    if symbol == ESCAPE:
        bits += 4
        rest = (k >> shift) - ESCAPE + 1
        while rest > 1:
            rest >>= 1
            bits += 1
    elif symbol == 0 and k > 0:
        bits += 1  # the sign, which the costs of the other symbols hold
    error = target - point(k, quantiser, symbol, shift, tables.centroids[row, quantiser])
    length: int = tables.costs[row, quantiser, symbol] + (bits << 8)
    return error * error + (weight * length >> _LAMBDA_BITS)


@compiled
def branches(
    target: int, row: int, shift: int, weight: int, tables: Magnitudes, prices: Ints, choices: Ints
) -> None:
    """The best magnitude of each quantiser and parity: the nearest one, and 0 for the even parity.

    Args:
        target: the coefficient's absolute value.
        row: of the tables.
        shift: low bits that are coded apart.
        weight: lambda, as in `code`.
        tables: the frozen tables.
        prices: int64 (4,), by 2 * quantiser + parity, the result: distortion + weight * rate.
        choices: int64 (4,), the magnitudes.
    """
    common = shift == 0 and target < (ESCAPE - 2) << (FRACTION + 1)
    for q in range(2):
        place = target + (q << FRACTION)
        k = min((place + (1 << FRACTION)) >> (FRACTION + 1), MAX_SYMBOL - 2)
        other = k + 1 if k == 0 or place >= k << (FRACTION + 1) else k - 1
        near, far = 2 * q + (k & 1), 2 * q + 1 - (k & 1)
        choices[near], choices[far] = k, other
        if common:
            costs, points = tables.costs[row, q], tables.points[row, q]
            error, error_other = target - points[k], target - points[other]
            prices[near] = error * error + (weight * costs[k] >> _LAMBDA_BITS)
            prices[far] = error_other * error_other + (weight * costs[other] >> _LAMBDA_BITS)
            if choices[2 * q] == 2:
                zero = target * target + (weight * costs[0] >> _LAMBDA_BITS)
                if zero < prices[2 * q]:
                    prices[2 * q], choices[2 * q] = zero, 0
        else:
            prices[near] = _rare_price(k, target, q, row, shift, weight, tables)
            prices[far] = _rare_price(other, target, q, row, shift, weight, tables)


@compiled
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


@compiled
def take_magnitude(
    coder: Ints, quantiser: int, shift: int, starts: Ints, centroids: Ints, data: Bytes, end: int
) -> tuple[int, int]:
    """Decode what `put_magnitude` coded.

    Args:
        coder: from `arithmetic.reader`.
        quantiser: 0 or 1.
        shift: low bits that are coded apart.
        starts: int64 (21,), of the table's row and quantiser.
        centroids: int64 (20,), likewise.
        data: uint8, holds the stream.
        end: where it ends in it.

    Returns:
        The magnitude, `MAX_SYMBOL` or more where the bytes are no stream of ours; and the value with its
        sign, in 2^-8 of the step.
    """
    symbol = pop(coder, starts, data, end)
    magnitude = symbol
    if symbol == ESCAPE:
        bits = pop_bits(coder, 4, data, end)
        magnitude += (1 << bits) + pop_bits(coder, bits, data, end) - 1
    if shift > 0:
        magnitude = magnitude << shift | pop_bits(coder, shift, data, end)
    if magnitude == 0 or magnitude >= MAX_SYMBOL:
        return magnitude, 0
    value = point(magnitude, quantiser, symbol, shift, centroids)
    return magnitude, -value if pop_bits(coder, 1, data, end) == 1 else value
