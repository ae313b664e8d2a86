"""The machine that says which quantiser codes the next coefficient, as a shift register.

It is a systematic feedback encoder of a convolutional code: the parities of the magnitudes go in, and the
quantisers' numbers come out (Ungerboeck, "Trellis-coded modulation with redundant signal sets", 1987). With
the parity-check polynomials h0 and h1, sums over h0_i quantiser_(n+i) + h1_i parity_(n+i) are even. So there
are bits w with quantiser = h1 w and parity = h0 w, and a register of the last of them is the state: every
state comes from the two that differ in the oldest bit, whichever code it is, which makes for one short loop
in the encoder. docs/clp-format.md numbers the states otherwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.native import address, record


class Machine(NamedTuple):
    """A machine of 2^n states; the state's lowest bit is the newest one, and it begins in state 0.

    Attributes:
        quantisers: int32 (states,), the quantiser that a coefficient is coded with in each state. The oldest
            bit has no say in it.
        parities: int32 (states,), the parity of a magnitude after which the newest bit is 0. The oldest bit
            changes it.
    """

    quantisers: NDArray[np.int32]
    parities: NDArray[np.int32]

    @classmethod
    def of(cls, h0: int, h1: int, states_log2: int) -> Machine:
        """The machine of a code's parity-check polynomials, which have ``states_log2 + 1`` bits."""
        states = np.arange(1 << states_log2)

        def summed(polynomial: int) -> NDArray[np.int32]:
            """The sum of those of a state's bits that the polynomial, read from its end, names."""
            found = np.zeros(len(states), np.int32)
            for age in range(1, states_log2 + 1):
                if polynomial >> (states_log2 - age) & 1:
                    found ^= (states >> (age - 1) & 1).astype(np.int32)
            return found

        return cls(summed(h1), summed(h0))

    def record(self, states: int) -> Any:
        """``struct machine`` of machine.h, for loops that know the number of states."""
        return record(*(address(table, np.int32, states) for table in self))
