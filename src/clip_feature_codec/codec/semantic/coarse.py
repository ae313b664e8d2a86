"""Vectors in 5.1 bits a channel that can be searched as they are, and how far each lies from its code.

A vector is turned into axes that fit its like, and coded in four stages, each of which adds to those before:

1. of D coefficients, D / 32 in 8 bits, and D / 8 in 4;
2. D / 4 in 4;
3. the rest in 2;
4. what these have missed of all but the first, in 2.

Codes are levels of a step for each axis. After each stage, two bytes say how far the coefficients so far are
from their levels, in steps, and how long the rest of the vector is, which no stage has coded yet. By Cauchy
and Schwarz, the product of a query with what is missing is at most that times the length of the query's own
coefficients there, times their steps: so each stage has an upper limit for the product with the vector, as in
a VA-file (Weber, Schek and Blott 1998). A search that knows how high a limit has to be takes through a stage
only the vectors that the one before has not ruled out.

The first axis is the direction of the vectors' mean, which queries, too, have most of their length along: in
8 bits, next to nothing is missing there. The others are the principal axes across it, widest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.native import address, loops, place, record
from clip_feature_codec.errors import ConfigError

STAGES = 4

Codes: TypeAlias = tuple[NDArray[np.uint16], ...]
"""Of N vectors: for each stage uint16 (N, W), words of levels and one of two lengths, 255 if not known."""

_BITS = (8, 4, 2)
_TOGETHER = 8  # words: the levels of each number of bits take a multiple of these
_SPREADS = {8: 0.05, 4: 0.38, 2: 1.1}  # a step, in standard deviations
_AGAIN = 0.3  # a step of what is coded again, in steps of before
_PRIOR_VECTORS = 8  # weight of the prior variance 1 / D, counted in vectors
_LARGEST_TURNED = 2048  # channels: finding axes takes seconds there, minutes at four times as many
_MISSED = 12  # what is missing of coefficients counts in 12ths of a step
_UNCODED = 256  # and of vectors in 256ths of their length
_UNKNOWN = 255  # a length that is not known
_MARGIN = 1.001  # of lengths, for their rounding
_MOST = 2.0**30  # of a sum in C
_WEIGHTS = 32767
_LOWEST, _HIGHEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max
_ROUNDING = 2.0**-22  # times D + 16: above what float32 takes of a product of unit vectors


class _Field(NamedTuple):
    """Axes that are coded in so many bits, with so much of their steps."""

    axes: slice
    bits: int
    step: float

    @property
    def words(self) -> int:
        """What they take of a row."""
        count: int = self.axes.stop - self.axes.start
        return -(-count * self.bits // (16 * _TOGETHER)) * _TOGETHER

    @property
    def places(self) -> int:
        """Levels that there is room for."""
        return self.words * 16 // self.bits


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
        axes, around = np.eye(dim), vectors - mean
        if count and dim <= _LARGEST_TURNED:
            axes = _axes(around, mean)
        squares = np.square(around @ axes.T).sum(axis=0)
        spreads = np.sqrt((squares + _PRIOR_VECTORS / dim) / (count + _PRIOR_VECTORS))
        order = np.concatenate([[0], 1 + np.argsort(-spreads[1:], kind="stable")])
        steps = spreads[order]
        for field in (field for stage in _stages(dim)[:-1] for field in stage):
            steps[field.axes] *= _SPREADS[field.bits]
        return cls(*(np.ascontiguousarray(a, np.float32) for a in (mean, axes[order], steps)))

    @property
    def dim(self) -> int:
        """Number of channels D."""
        return int(self.mean.size)

    @cached_property
    def _stages(self) -> list[list[_Field]]:
        return _stages(self.dim)

    @property
    def row_words(self) -> list[int]:
        """Words W of a row of each stage's codes."""
        return [sum(field.words for field in stage) + 1 for stage in self._stages]

    def encode(self, vectors: NDArray[np.float64]) -> Codes:
        """Codes of unit vectors (N, D)."""
        missing = (vectors.astype(np.float32) - self.mean) @ self.axes.T
        missing /= self.steps
        codes, steps = [], np.ones(self.dim, np.float32)
        for stage in self._stages:
            packed = []
            for field in stage:
                half, step = 2 ** (field.bits - 1), np.float32(field.step)
                levels = np.clip(np.floor(missing[:, field.axes] / step) + half, 0, 2 * half - 1)
                missing[:, field.axes] -= (levels - np.float32(half - 0.5)) * step
                steps[field.axes] = step
                packed.append(_packed(levels.astype(np.uint16), field))
            coded = stage[-1].axes.stop
            missed = _length(missing[:, :coded] / steps[:coded], _MISSED)
            uncoded = _length(missing[:, coded:] * self.steps[coded:], _UNCODED)
            codes.append(np.column_stack([*packed, missed | uncoded << 8]))
        return tuple(codes)

    def query(self, unit: NDArray[np.float64]) -> CoarseQuery:
        """A query, float64 (D,) of unit length, made ready."""
        # Not by BLAS: its threads would go on looking for work on the cores that the scan is about to use.
        turned = np.einsum("ij,j->i", self.axes.astype(np.float64), unit)
        stages, steps = [], self.steps.astype(np.float64)
        for fields in self._stages:
            for axes, _, step in fields:
                steps[axes] = step * self.steps[axes]
            coded = fields[-1].axes.stop
            missed = float(np.linalg.norm(turned[:coded] * steps[:coded])) / _MISSED
            uncoded = float(np.linalg.norm(turned[coded:])) / _UNCODED
            stages.append(_Weights.of(fields, turned * steps, missed, uncoded))
        heaviest = max(float(np.abs(stage.weights).max(initial=0)) for stage in stages)
        value = max(heaviest / _WEIGHTS, sum(stage.largest for stage in stages) / _MOST, 1e-30)
        offset = float(unit @ self.mean) + _ROUNDING * (self.dim + 16)
        return CoarseQuery([stage.whole(value) for stage in stages], value, offset)


class _StageQuery(NamedTuple):
    """What a stage of a query is in C.

    Attributes:
        sizes: words of a row with fields of 8, 4 and 2 bits.
        weights: int16, one for each field of a row.
        base: what is added to a row's sum of products.
        missed, uncoded: what one of each length may add.
    """

    sizes: list[int]
    weights: NDArray[np.int16]
    base: int
    missed: int
    uncoded: int


class _Weights(NamedTuple):
    """The same before it is made integers.

    Attributes:
        sizes: as there.
        weights: float64 (n,).
        most: the highest level of each field, (n,).
        missed, uncoded: as there.
    """

    sizes: list[int]
    weights: NDArray[np.float64]
    most: NDArray[np.float64]
    missed: float
    uncoded: float

    @classmethod
    def of(
        cls, fields: list[_Field], weights: NDArray[np.float64], missed: float, uncoded: float
    ) -> _Weights:
        """Those of a stage, from weights of all axes (D,)."""
        padded = [np.zeros(field.places) for field in fields]
        for some, field in zip(padded, fields, strict=True):
            some[: field.axes.stop - field.axes.start] = weights[field.axes]
        most = [np.full(field.places, 2.0**field.bits - 1) for field in fields]
        sizes = [sum(field.words for field in fields if field.bits == bits) for bits in _BITS]
        return cls(sizes, np.concatenate(padded), np.concatenate(most), missed, uncoded)

    @property
    def largest(self) -> float:
        """What no part of a sum is above."""
        return float(np.abs(self.weights) @ self.most) + _UNKNOWN * (self.missed + self.uncoded)

    def whole(self, value: float) -> _StageQuery:
        """The stage in integers, of which one stands for a value."""
        whole = np.rint(self.weights / value)
        # Levels count from the middle, half the highest; what weights are rounded by may go either way.
        base = (np.abs(self.weights / value - whole) @ self.most - whole @ self.most) / 2
        missed, uncoded = (int(np.ceil(length / value)) for length in (self.missed, self.uncoded))
        return _StageQuery(self.sizes, whole.astype(np.int16), int(np.ceil(base)), missed, uncoded)


@dataclass(frozen=True, eq=False)
class CoarseQuery:
    """A query as integers.

    Attributes:
        stages: of each stage.
        unit: what one of a sum stands for.
        offset: what is added to it.
    """

    stages: list[_StageQuery]
    unit: float
    offset: float

    def scan(self, codes: Codes, floor: float = -np.inf) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The rows whose products with the query may be ``floor`` or more.

        Returns:
            The rows, int32 (n,) ascending, and what their products are not above, float64 (n,).
        """
        count, words = len(codes[0]), list[int]()
        for (sizes, weights, base, missed, uncoded), packed in zip(self.stages, codes, strict=True):
            where = address(packed, np.uint16, count, sum(sizes) + 1)
            words += [where, *sizes, address(weights, np.int16, weights.size), base, missed, uncoded]
        rows, sums = np.empty(count, np.int32), np.empty(count, np.int32)
        found = loops().coarse_scan(
            record(*words),
            len(codes),
            count,
            self._sum_at(floor),
            place(rows, np.int32, count),
            place(sums, np.int32, count),
        )
        limits = sums[:found].astype(np.float64) * self.unit + self.offset
        limits[sums[:found] == _HIGHEST] = np.inf
        return rows[:found].copy(), limits

    def _sum_at(self, value: float) -> int:
        """A sum that stands for at most a value, as high as it may be."""
        whole = np.floor((value - self.offset) / self.unit - 1) if np.isfinite(value) else _LOWEST
        return int(np.clip(whole, _LOWEST, _HIGHEST))


def _axes(around: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction of a mean (D,), and across it the principal axes of what is around it (N, D): (D, D)."""
    common = mean / max(float(np.linalg.norm(mean)), 1e-30)
    across = around - np.outer(around @ common, common)
    # The only one that comes out below zero, so that it is the first.
    axes: NDArray[np.float64] = np.linalg.eigh(across.T @ across - np.outer(common, common))[1].T
    return axes


def products(
    vectors: NDArray[np.int16], rows: NDArray[np.int32], query: NDArray[np.int16]
) -> NDArray[np.int32]:
    """Products of some rows of vectors with a query, none of which is longer than 46340.

    Args:
        vectors: int16 (N, D).
        rows: int32 (n,).
        query: int16 (D,).

    Returns:
        int32 (n,).

    Raises:
        ValueError: a row is none of the vectors'; or as `address`.
    """
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(vectors):
        raise ValueError(f"rows: found {rows}, expected those of {len(vectors)} vectors")
    found = np.empty(len(rows), np.int32)
    loops().coarse_products(
        address(vectors, np.int16, len(vectors), query.size),
        query.size,
        address(rows, np.int32, len(rows)),
        len(rows),
        address(query, np.int16, query.size),
        place(found, np.int32, len(rows)),
    )
    return found


def _stages(dim: int) -> list[list[_Field]]:
    """Which axes each stage codes, and in how many bits."""
    first = -(-dim // 32)
    second = min(first + dim // 8, dim)
    third = min(second + dim // 4, dim)
    head, more, rest = slice(first, second), slice(second, third), slice(third, dim)
    return [
        [_Field(slice(0, first), 8, 1.0), _Field(head, 4, 1.0)],
        [_Field(more, 4, 1.0)],
        [_Field(rest, 2, 1.0)],
        [_Field(slice(first, dim), 2, _AGAIN)],
    ]


def _length(rows: NDArray[np.floating[Any]], unit: int) -> NDArray[np.uint16]:
    """Lengths of rows (N, n) in so many parts of one, rounded up; 255 for more than that."""
    lengths = np.ceil(unit * _MARGIN * np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1)))
    whole: NDArray[np.uint16] = np.minimum(lengths, _UNKNOWN).astype(np.uint16)
    return whole


def _packed(levels: NDArray[np.uint16], field: _Field) -> NDArray[np.uint16]:
    """Levels (N, n) as words (N, w): of the first w levels the lowest bits, and so on."""
    padded = np.zeros((len(levels), field.places), np.uint16)
    padded[:, : levels.shape[1]] = levels
    words = np.zeros((len(levels), field.words), np.uint16)
    for number, some in enumerate(np.split(padded, 16 // field.bits, axis=1)):
        np.bitwise_or(words, some << np.uint16(number * field.bits), out=words)
    return words
