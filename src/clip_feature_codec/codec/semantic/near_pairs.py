"""All pairs of points within a distance of each other, among a million and more.

Points are whole numbers along `AXES` axes, widest first. They are ordered in boxes of `BOX`, as by a k-d tree
(Bentley 1975), and boxes in tiles. A point is compared with all boxes along the `LEADING` axes, with the
points of those that are not too far away along the same, and with what is left of these along all: each is a
lower bound of the distance, and each rules out most of what the one before has left. A tree that skips pairs
of boxes as a whole (Gray and Moore 2000) gains little more in so many dimensions, where a box of 1,024
points is as wide as all are along most axes; what is done for each pair has to be cheap instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.native import address, loops, place

AXES = 192
LEADING = 16
BOX = 64
TILE = 16 * BOX
LONGEST = 16_383
"""Points may be so far from the origin: then differences and sums of squares fit 16 and 32 bits."""

_SAMPLE = 4096  # points by which it is told which axis is the widest
_ROOM = 1 << 17  # pairs that are found at a time


class Stretch(NamedTuple):
    """What is left of comparing the points of a tile with others: from a step and a point of the tile on."""

    tile: int
    step: int = 0
    point: int = 0


class NearPairs:
    """Points, made ready to find pairs.

    Args:
        points: int16 (N, AXES), of length `LONGEST` at most, N from 1 to 2^31 - 1, in the order that `boxed`
            gives (in any other, more is compared).
        reach: the square of the largest distance that matters.

    Attributes:
        tiles: how many stretches there are to begin with.
    """

    def __init__(self, points: NDArray[np.int16], reach: float) -> None:
        self._points = points
        self._reach = int(min(max(reach, 0.0), float(2 * LONGEST) ** 2))
        self.tiles = -(-len(points) // TILE)
        boxes = -(-len(points) // BOX)
        self._lanes = np.zeros((boxes, LEADING, BOX), np.int16)
        # Where there is no point, no product is high enough.
        self._halves = np.full((boxes, BOX), np.iinfo(np.int16).max, np.int16)
        self._ends = np.zeros((self.tiles, 2, LEADING, TILE // BOX), np.int16)
        for number in range(boxes):
            mine = points[number * BOX : (number + 1) * BOX, :LEADING]
            self._lanes[number, :, : len(mine)] = mine.T
            self._halves[number, : len(mine)] = np.square(mine, dtype=np.int64).sum(axis=1) >> 16
            tile, box = divmod(number, TILE // BOX)
            self._ends[tile, :, :, box] = mine.min(axis=0), mine.max(axis=0)

    def some(self, stretch: Stretch) -> tuple[NDArray[np.int32], Stretch | None]:
        """Pairs of points within reach, (n, 2), and what is left of the stretch when there are many.

        All pairs, each once, are those of `Stretch(0)` to `Stretch(tiles - 1)`.
        """
        at, pairs = np.array(stretch[1:], np.int64), np.empty((_ROOM, 2), np.int32)
        steps = self._steps(stretch.tile)
        found = loops().near_pairs(
            address(self._points, np.int16, len(self._points), AXES),
            address(self._lanes, np.int16, *self._lanes.shape),
            address(self._halves, np.int16, *self._halves.shape),
            address(self._ends, np.int16, *self._ends.shape),
            len(self._points),
            self._reach,
            stretch.tile,
            steps,
            place(at, np.int64, 2),
            place(pairs, np.int32, _ROOM, 2),
            _ROOM,
        )
        step, point = at.tolist()
        return pairs[:found].copy(), Stretch(stretch.tile, step, point) if step < steps else None

    def _steps(self, tile: int) -> int:
        """With how many tiles, from itself on in a ring, a tile is compared: with half of all."""
        return (self.tiles + 1) // 2 + (self.tiles % 2 == 0 and tile < self.tiles // 2)


def boxed(leading: NDArray[np.int16]) -> NDArray[np.intp]:
    """An order of points, (N,), in which each `BOX` that follow one another are near each other.

    Args:
        leading: their leading axes, int16 (N, LEADING).
    """
    order = np.arange(len(leading))
    parts = [slice(0, len(order))]
    while parts:
        part = parts.pop()
        rows = order[part]
        if len(rows) <= BOX:
            continue
        widest = int(leading[rows[:: 1 + len(rows) // _SAMPLE]].var(axis=0, dtype=np.float32).argmax())
        middle = -(-len(rows) // BOX) // 2 * BOX
        order[part] = rows[np.argpartition(leading[rows, widest], middle)]
        parts += [slice(part.start, part.start + middle), slice(part.start + middle, part.stop)]
    return order
