"""At what level each coefficient is coded: its scale less the step, and the drift of the vector so far.

The level addresses the frozen tables of `magnitudes`, in sixteenths of an octave. Vectors differ in how far
they spread: so the decoder keeps a running estimate, ``drift``, of how much wider or narrower than its levels
a vector is, and adds it to them. It moves by the score of each symbol over the information so far, the method
of scoring with forgetting. The code is in ``levels.h``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import Magnitudes
from clip_feature_codec.codec.native import Ints, address, loops, place

LOWEST_LEVEL = -40  # coefficients below this level are zero and are not coded


def fill_gains(levels: Ints, tables: Magnitudes, gains: NDArray[np.int32]) -> int:
    """The weight of each coefficient's score in the drift, which does not depend on the symbols.

    Args:
        levels: int64 (n,), not increasing.
        tables: the frozen tables.
        gains: int32 (n,), the result; what is behind the coded coefficients stays.

    Returns:
        How many coefficients are coded: those at `LOWEST_LEVEL` or above.
    """
    width = len(levels)
    coded: int = loops().semantic_fill_gains(
        address(levels, np.int64, width), width, tables.record(), place(gains, np.int32, width)
    )
    return coded
