"""At what level each coefficient is coded: its scale less the step, and the drift of the vector so far.

The level addresses the frozen tables of `magnitudes`, in sixteenths of an octave. Vectors differ in how far
they spread: so the decoder keeps a running estimate, ``drift``, of how much wider or narrower than its levels
a vector is, and adds it to them. It moves by the score of each symbol over the information so far, the method
of scoring with forgetting.
"""

from __future__ import annotations

from clip_feature_codec.codec.entropy.compiled import inlined
from clip_feature_codec.codec.entropy.magnitudes import ESCAPE, Magnitudes
from clip_feature_codec.codec.entropy.quantisers import Ints, address

LOWEST_LEVEL = -40  # coefficients below this level are zero and are not coded
_DRIFT_BITS = 12  # the drift counts in 2^-12 of a level
_DRIFT_LIMIT = 48 << _DRIFT_BITS
_PRIOR = 42000  # information, in the unit of the tables, that the first estimate of 0 is worth
_FORGET = 6  # 1/64 of the information is forgotten with each coefficient
_GAIN = 775_000_000  # 2^8 2^12 16 / (8 ln 2 / 2^8): drift per score, by the information so far


@inlined
def fill_gains(levels: Ints, information: Ints, gains: Ints) -> int:
    """The weight of each coefficient's score in the drift, which does not depend on the symbols.

    Args:
        levels: int64 (n,), not increasing.
        information: int64 (65,), of the tables.
        gains: int64 (n,), the result; what is behind the coded coefficients stays.

    Returns:
        How many coefficients are coded: those at `LOWEST_LEVEL` or above.
    """
    known = _PRIOR
    for j in range(len(levels)):
        if levels[j] < LOWEST_LEVEL:
            return j
        gains[j] = _GAIN // known
        known += information[address(levels[j])[0]] - (known >> _FORGET)
    return len(levels)


@inlined
def drifted_address(level: int, drift: int) -> tuple[int, int]:
    """Table row and shift of a coefficient (see `quantisers.address`)."""
    return address(level + (drift >> _DRIFT_BITS))


@inlined
def drift_after(
    drift: int, gain: int, row: int, shift: int, quantiser: int, magnitude: int, tables: Magnitudes
) -> int:
    """The drift after one more magnitude, which was coded with this row, shift and quantiser."""
    score: int = tables.scores[row, quantiser, min(magnitude >> shift, ESCAPE)]
    return min(max(drift + (score * gain >> 8), -_DRIFT_LIMIT), _DRIFT_LIMIT)
