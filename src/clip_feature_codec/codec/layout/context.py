"""At what level each layout coefficient is coded: its spread is guessed from those before it.

The level starts from the scale of the coefficient less the step. Then every coded coefficient leaves a score,
the derivative of its log-likelihood by the log of its spread at that starting level: below zero where it came
out smaller than expected, far above where it came out larger. A weighted sum of the scores of neighbouring
frequencies, of the same frequency in the channels before, and of running means over the channel so far moves
the level. The weights are trained.

All of it is integer arithmetic.
"""

from __future__ import annotations

from clip_feature_codec.codec.entropy.compiled import inlined
from clip_feature_codec.codec.entropy.magnitudes import ESCAPE, Magnitudes
from clip_feature_codec.codec.entropy.quantisers import Ints, address
from clip_feature_codec.codec.layout.tables import FEATURES, LOOKED_AT, Geometry

RUNNING = 8
"""Score and information, with forgetting, over all, of the diagonal at hand; and two means of theirs."""

_LOWEST = -5 * 256  # coefficients whose scale is this far below the step are zero and are not coded
_HIGHEST = 13 * 256  # where shifts end
_MEMORY = 205  # of 256: how much of a running mean is left after another diagonal
_PRIOR = 16  # information that a running mean of 0 is worth before anything is coded


@inlined
def select(scales: Ints, step: int, coded: Ints, starts: Ints) -> int:
    """Where each coefficient's level starts, and which of them are coded.

    Args:
        scales: int64 (L,), of the tables.
        step: its byte.
        coded: int64 (L,), the result: the coefficients that are coded, in their order.
        starts: int64 (L,), the result: where levels start, in 1/256 octave.

    Returns:
        How many coefficients are coded.
    """
    count = 0
    for i in range(len(scales)):
        starts[i] = scales[i] - 16 * step
        if starts[i] >= _LOWEST:
            coded[count] = i
            count += 1
    return count


@inlined
def turn(i: int, last: int, geometry: Geometry, running: Ints) -> bool:
    """Go on from coefficient ``last``, -1 for none, to i.

    On a new diagonal the one at hand goes into the means; in a new channel they begin again.

    Args:
        i: the coefficient that comes.
        last: the one before it.
        geometry: `tables.geometry()`.
        running: int64 (RUNNING,), moved on.

    Returns:
        Whether a new channel begins.
    """
    if last < 0:
        return False
    if geometry.channels[i] != geometry.channels[last]:
        for column in range(RUNNING):
            running[column] = 0
        return True
    if geometry.diagonals[i] == geometry.diagonals[last]:
        return False
    fold(running)
    return False


@inlined
def fold(running: Ints) -> None:
    """A new diagonal: the one at hand goes into the means; ``running`` is int64 (RUNNING,)."""
    running[0] = (running[0] * _MEMORY >> 8) + running[4]
    running[1] = (running[1] * _MEMORY >> 8) + running[5]
    running[2] += running[4]
    running[3] += running[5]
    running[4] = running[5] = 0
    running[6] = running[0] * 256 // (running[1] + _PRIOR)
    running[7] = running[2] * 256 // (running[3] + _PRIOR)


@inlined
def look(i: int, geometry: Geometry, scores: Ints, before: Ints, running: Ints, features: Ints) -> None:
    """What coefficient i can know.

    Args:
        i: the coefficient.
        geometry: `tables.geometry()`.
        scores: int64 (L + 1,), those of this channel; 0 at what is not coded yet.
        before: int64 (L + 1,), those of the channels before.
        running: int64 (RUNNING,).
        features: int64 (8,), the result.
    """
    near = geometry.neighbours[i]
    for k in range(LOOKED_AT // 2):
        features[k] = scores[near[2 * k]] + scores[near[2 * k + 1]]
    features[4] = before[near[LOOKED_AT]]
    features[5] = before[near[LOOKED_AT + 1]]
    features[6] = running[6]
    features[7] = running[7]


@inlined
def level_at(start: int, weights: Ints, features: Ints) -> int:
    """The level, in 1/16 octave, from where it starts, in 1/256; weights and features are int64 (8,)."""
    moved = 0
    for k in range(FEATURES):
        moved += weights[k] * features[k]
    return min(start + (moved >> 8), _HIGHEST) >> 4


@inlined
def score_of(start: int, magnitude: int, quantiser: int, magnitudes: Magnitudes) -> tuple[int, int]:
    """Score and information of a coded coefficient, from the table at its starting level."""
    row, shift = address(min(start, _HIGHEST) >> 4)
    symbol = min(magnitude >> shift, ESCAPE)
    return magnitudes.scores[row, quantiser, symbol], magnitudes.information[row]


@inlined
def note(i: int, score: int, information: int, scores: Ints, running: Ints) -> None:
    """Leave the score of coefficient i to those behind it; ``scores`` are int64 (L + 1,)."""
    scores[i] = score
    running[4] += score
    running[5] += information
