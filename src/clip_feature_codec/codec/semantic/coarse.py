"""Vectors in 2.9 bits a channel that can be searched as they are, and how far each lies from its code.

A vector is turned into the principal axes of its like, widest first. Of D coefficients, D / 32 are kept in 8
bits, 11 D / 32 in 4, the rest in 2, as levels of a step for each axis. For each of these three groups, a byte
says how far the coefficients are from their levels, in steps. By Cauchy and Schwarz, the product of a query
with what is missing of a group is at most that times the length of the query's coefficients times their
steps: so a code has an upper limit for the product with its vector, as in a VA-file (Weber, Schek and Blott
1998), and a search that goes through the codes alone knows what it can leave out.

On CLIP vectors of photographs, one in a thousand has a limit above the cosine of the tenth nearest among
100,000, and one in a hundred for queries that lie away from all photographs, as words do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.native import address, loops, place
from clip_feature_codec.errors import ConfigError

GROUPS = 3
_BITS = (8, 4, 2)
_SPREADS = (0.04, 0.38, 1.1)  # a step, in standard deviations
_PRIOR_VECTORS = 8  # weight of the prior variance 1 / D, counted in vectors
_LARGEST_TURNED = 2048  # channels: finding axes takes seconds there, minutes at four times as many
_RADII = 8  # radii count in eighths of a step
_UNBOUNDED = 255  # a radius that is not known
_MOST = 2.0**30  # of a sum in C
_WEIGHTS = 32767
_ROUNDING = 2.0**-22  # times D: above what float32 takes of a product of unit vectors


class Codes(NamedTuple):
    """Codes of N vectors.

    Attributes:
        levels: uint8 (N, B), the levels of the axes, packed.
        radii: uint8 (N, 3), what each group misses, in eighths of a step, rounded up; 255 for more than that.
    """

    levels: NDArray[np.uint8]
    radii: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CoarseFrame:
    """Axes and steps.

    Attributes:
        mean: float32 (D,), taken off before vectors are turned.
        axes: float32 (D, D), orthonormal; row j is the direction of coefficient j.
        steps: float32 (D,), positive.

    Raises:
        ConfigError: a shape is wrong, or a number is out of its range.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    steps: NDArray[np.float32]

    def __post_init__(self) -> None:
        dim = self.mean.size
        if (self.mean.shape, self.axes.shape, self.steps.shape) != ((dim,), (dim, dim), (dim,)) or not dim:
            found = f"{self.mean.shape}, {self.axes.shape} and {self.steps.shape}"
            raise ConfigError(f"coarse codes: found shapes {found}, expected (D,), (D, D) and (D,)")
        finite = all(np.isfinite(array).all() for array in (self.mean, self.axes, self.steps))
        if not (finite and (self.steps > 0).all()):
            raise ConfigError("coarse codes: found numbers that are no axes or steps")

    @classmethod
    def fit(cls, vectors: NDArray[np.float64], dim: int) -> CoarseFrame:
        """Axes and steps for vectors like these.

        Args:
            vectors: float64 (N, D), unit length; none are enough, and some thousands better.
            dim: D.
        """
        count = len(vectors)
        mean = vectors.mean(axis=0) if count else np.zeros(dim)
        axes = np.eye(dim)
        if count and dim <= _LARGEST_TURNED:
            axes = np.linalg.eigh((vectors - mean).T @ (vectors - mean))[1].T
        squares = np.square((vectors - mean) @ axes.T).sum(axis=0)
        spreads = np.sqrt((squares + _PRIOR_VECTORS / dim) / (count + _PRIOR_VECTORS))
        order = np.argsort(-spreads, kind="stable")
        steps = spreads[order] * np.repeat(_SPREADS, _counts(dim))
        return cls(*(np.ascontiguousarray(a, np.float32) for a in (mean, axes[order], steps)))

    @property
    def dim(self) -> int:
        """Number of channels D."""
        return int(self.mean.size)

    @cached_property
    def _bytes(self) -> NDArray[np.int64]:
        """Bytes of each group in a row, (3,)."""
        counts = np.array(_counts(self.dim), np.int64)
        return -(-counts * _BITS // 8)

    @property
    def row_bytes(self) -> int:
        """Bytes B of a row of levels."""
        return int(self._bytes.sum())

    @cached_property
    def _groups(self) -> list[slice]:
        ends = np.cumsum([0, *_counts(self.dim)]).tolist()
        return [slice(first, last) for first, last in pairwise(ends)]

    def encode(self, vectors: NDArray[np.float64]) -> Codes:
        """Codes of unit vectors (N, D)."""
        turned = (vectors.astype(np.float32) - self.mean) @ self.axes.T
        turned /= self.steps
        packed, radii = [], np.empty((len(vectors), GROUPS), np.uint8)
        for number, (bits, group) in enumerate(zip(_BITS, self._groups, strict=True)):
            places, half = turned[:, group], 2 ** (bits - 1)
            levels = np.clip(np.floor(places) + half, 0, 2 * half - 1)
            missing = places - (levels - (half - 0.5))
            lengths = np.ceil(_RADII * 1.001 * np.sqrt(np.square(missing, dtype=np.float64).sum(axis=1)))
            radii[:, number] = np.minimum(lengths, _UNBOUNDED)
            packed.append(_packed(levels.astype(np.uint8), bits))
        return Codes(np.hstack(packed), radii)

    def query(self, unit: NDArray[np.float64]) -> CoarseQuery:
        """A query, float64 (D,) of unit length, made ready."""
        turned = self.axes.astype(np.float64) @ unit
        weights, reaches = turned * self.steps, np.empty(GROUPS)
        offset, largest, fields = float(unit @ self.mean), 0.0, []
        for number, (bits, group) in enumerate(zip(_BITS, self._groups, strict=True)):
            half, some = 2 ** (bits - 1), weights[group]
            reaches[number] = np.sqrt(np.square(some).sum()) / _RADII
            offset -= (half - 0.5) * float(some.sum())
            largest += (2 * half - 1) * float(np.abs(some).sum()) + _UNBOUNDED * float(reaches[number])
            padded = np.zeros(int(self._bytes[number]) * 8 // bits)
            padded[: len(some)] = some
            fields.append(padded)
        every = np.concatenate(fields)
        unit_of_sums = max(float(np.abs(every).max()) / _WEIGHTS, largest / _MOST, 1e-30)
        whole = np.rint(every / unit_of_sums)
        most = np.repeat([2**bits - 1 for bits in _BITS], [len(some) for some in fields])
        rounding = float((np.abs(every - whole * unit_of_sums) * most).sum())
        slack = rounding + _ROUNDING * self.dim
        up = np.ceil(reaches / unit_of_sums).astype(np.int64)
        return CoarseQuery(self._bytes, whole.astype(np.int16), up, unit_of_sums, offset + slack)


@dataclass(frozen=True, eq=False)
class CoarseQuery:
    """A query as integers.

    Attributes:
        row_bytes: int64 (3,), of each group in a row of levels.
        weights: int16, one for each field of a row.
        reaches: int64 (3,), what an eighth of a step of each group's radius may add.
        unit: what one of a sum stands for.
        offset: what is added to it.
    """

    row_bytes: NDArray[np.int64]
    weights: NDArray[np.int16]
    reaches: NDArray[np.int64]
    unit: float
    offset: float

    def limits(self, codes: Codes) -> NDArray[np.int32]:
        """What each product with a vector is not above, as sums: int32 (N,); see `value` and `sum_at`."""
        count, limits = len(codes.levels), np.empty(len(codes.levels), np.int32)
        loops().coarse_limits(
            address(codes.levels, np.uint8, count, int(self.row_bytes.sum())),
            address(codes.radii, np.uint8, count, GROUPS),
            count,
            address(self.row_bytes, np.int64, GROUPS),
            address(self.weights, np.int16, self.weights.size),
            address(self.reaches, np.int64, GROUPS),
            place(limits, np.int32, count),
        )
        return limits

    def value(self, sums: NDArray[np.int32]) -> NDArray[np.float64]:
        """What sums (n,) stand for; of those that know no limit, infinity."""
        values = sums.astype(np.float64) * self.unit + self.offset
        values[sums == np.iinfo(np.int32).max] = np.inf
        return values

    def sum_at(self, value: float) -> int:
        """A sum that stands for at most a value, as high as it may be."""
        whole = np.floor((value - self.offset) / self.unit - 1) if np.isfinite(value) else -2 * _MOST
        return int(np.clip(whole, np.iinfo(np.int32).min, np.iinfo(np.int32).max))


def _counts(dim: int) -> tuple[int, int, int]:
    """How many axes there are of 8, 4 and 2 bits."""
    first = -(-dim // 32)
    second = min(11 * dim // 32 // 2 * 2, dim - first)
    return first, second, dim - first - second


def _packed(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Levels (N, n) as fields of bytes (N, b): of the first b levels the lowest bits, and so on."""
    fields = 8 // bits
    size = -(-levels.shape[1] // fields)
    padded = np.zeros((len(levels), fields, size), np.uint8)
    padded.reshape(len(levels), fields * size)[:, : levels.shape[1]] = levels
    packed: NDArray[Any] = np.zeros((len(levels), size), np.uint8)
    for number in range(fields):
        packed |= padded[:, number] << np.uint8(number * bits)
    return packed
