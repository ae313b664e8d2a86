"""The ``klt`` profile: mean removed, Karhunen-Loeve transform, dependent quantisation, integer tables.

A payload is a step byte b and an arithmetic-coded stream. The step is 2^((b - 208) / 16): one for all
coefficients, which is reverse water-filling (Cover and Thomas, "Elements of Information Theory", section
10.3.3).

Every number that the decoder or the encoder decides on is an integer, or a float64 that one correctly rounded
operation made of integers: matrix products are float64 sums of integers below 2^53, which are exact in any
order. So streams and vectors are the same on every machine, with every BLAS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import Magnitudes, builtin
from clip_feature_codec.codec.entropy.tables import STEP_MANTISSAS, from_base64, to_base64
from clip_feature_codec.codec.semantic.klt_search import (
    STEPS,
    WEIGHT,
    ByteSearch,
    Closeness,
    Coding,
    CosineSearch,
)
from clip_feature_codec.codec.semantic.vectors import cosines, out_of_reach
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError

MAX_DIM = 8192
STEP_ONE = 208  # the step byte of a step of 1
UNIT_BITS = 15  # the transform's tables count in 2^-15
_FRACTION_BITS = 8  # coefficients in units of the step have 8 bits behind the point
_NORM_BITS = 24
_ROWS = 2048  # vectors at once: what is held for each is a few times 8 D bytes


_COARSEST_QUALITY, _FINEST_QUALITY = 156, 58  # step bytes of quality 0 and 100


@dataclass(frozen=True, eq=False)
class KltCoder:
    """Transform and spreads of one CLIP space, and the tables of the coder.

    Attributes:
        mean: int16 (D,), in 2^-15.
        basis: int16 (D, D), in 2^-15; row j is the direction of coefficient j, widest first.
        scales: int16 (D,), 16 log2 of each coefficient's spread, from -400 to 16.
        magnitudes: tables of the entropy coder.
        smallest: bytes of the smallest payload: the step byte alone, which stands for the mean's direction.

    Raises:
        ConfigError: a shape or a range is wrong.
    """

    mean: NDArray[np.int16]
    basis: NDArray[np.int16]
    scales: NDArray[np.int16]
    magnitudes: Magnitudes
    profile: ClassVar[str] = "klt"
    smallest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("mean", "basis", "scales"):
            values = np.array(getattr(self, name), dtype=np.int16)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        dim = self.mean.size
        if self.mean.ndim != 1 or not 1 <= dim <= MAX_DIM:
            expected = f"(D,), D from 1 to {MAX_DIM}"
            raise ConfigError(f"klt mean: found shape {self.mean.shape}, expected {expected}")
        if self.basis.shape != (dim, dim) or self.scales.shape != (dim,):
            found = f"{self.basis.shape} and {self.scales.shape}"
            expected = f"{(dim, dim)} and {(dim,)}"
            raise ConfigError(f"klt basis and scales: found shapes {found}, expected {expected}")
        if self.scales.min() < -400 or self.scales.max() > 16:
            found = f"{self.scales.min()} to {self.scales.max()}"
            raise ConfigError(f"klt scales: found {found}, expected -400 to 16")
        if (np.diff(self.scales) > 0).any():
            raise ConfigError(
                "klt scales: found a wider coefficient behind a narrower one, expected the widest first"
            )

    @property
    def dim(self) -> int:
        """Number of channels D."""
        return int(self.mean.size)

    @classmethod
    def fit(cls, vectors: NDArray[np.float32] | Iterable[NDArray[np.float32]]) -> KltCoder:
        """Make tables from sample vectors (see `klt_fit.fit`).

        Args:
            vectors: float (N, D), N >= 1, unit length, finite; or blocks of such, read once.

        Raises:
            ConfigError: a shape is not (N, D) with the same D from 1 to 8192, or there is no vector.
        """
        from clip_feature_codec.codec.semantic import klt_fit

        mean, basis, spreads = klt_fit.fit(vectors)
        unit = 1 << UNIT_BITS
        limit = np.iinfo(np.int16)
        return cls(
            np.clip(np.rint(mean * unit), limit.min, limit.max).astype(np.int16),
            np.clip(np.rint(basis * unit), limit.min, limit.max).astype(np.int16),
            np.clip(np.rint(16 * np.log2(spreads)), -400, 16).astype(np.int16),
            builtin(),
        )

    @cached_property
    def _directions(self) -> NDArray[np.float64]:
        """The basis as float64, for exact products."""
        return self.basis.astype(np.float64)

    def to_bytes(self) -> bytes:
        """Everything that decoding depends on, for a hash."""
        tables = (self.mean, self.basis, self.scales)
        return b"".join(table.astype("<i2").tobytes() for table in tables) + self.magnitudes.to_bytes()

    def to_json(self) -> dict[str, Any]:
        """The tables as JSON values: arrays as base64 of little-endian int16, rows one behind the other."""
        return {
            "dim": self.dim,
            "mean": to_base64(self.mean),
            "basis": to_base64(self.basis),
            "scales": to_base64(self.scales),
            "magnitudes": self.magnitudes.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any) -> KltCoder:
        """Tables from what `to_json` gave.

        Raises:
            StoreError: a field is missing, of another size or out of its range.
        """
        dim = data.get("dim") if isinstance(data, dict) else None
        if not isinstance(dim, int) or isinstance(dim, bool) or not 1 <= dim <= MAX_DIM:
            raise StoreError(f"klt dim: found {dim!r}, expected 1 to {MAX_DIM}")
        try:
            mean, basis, scales = (
                from_base64(data, name, shape).astype(np.int16)
                for name, shape in (("mean", (dim,)), ("basis", (dim, dim)), ("scales", (dim,)))
            )
            magnitudes = Magnitudes.from_json(data.get("magnitudes"))
        except StoreError as error:
            raise StoreError(f"klt {error}") from None
        try:
            return cls(mean, basis, scales, magnitudes)
        except ConfigError as error:
            raise StoreError(str(error)) from None

    def _coefficients(self, unit: NDArray[np.float32]) -> NDArray[np.float64]:
        """Coefficients, float64 (N, D), integers in 2^-30, of unit vectors, float32 (N, D)."""
        rounded = np.rint(unit.astype(np.float64) * (1 << UNIT_BITS))
        coefficients: NDArray[np.float64] = (rounded - self.mean) @ self._directions.T
        return coefficients

    def step_at(self, quality: float) -> int:
        """The step byte of a quality from 0 to 100."""
        return round(_COARSEST_QUALITY + (_FINEST_QUALITY - _COARSEST_QUALITY) * quality / 100)

    def encode(self, unit: NDArray[np.float32], steps: NDArray[np.integer[Any]]) -> list[bytes]:
        """Payloads of vectors, each at its own step.

        Args:
            unit: float32 (N, D), unit length.
            steps: integers (N,), step bytes from 0, the finest, to 255.
        """
        payloads: list[bytes] = []
        for first in range(0, len(unit), _ROWS):
            coefficients = self._coefficients(unit[first : first + _ROWS])
            chosen = np.asarray(steps[first : first + _ROWS], np.int64)
            payloads += self._coded(coefficients, chosen, np.full(len(chosen), WEIGHT))
        return payloads

    def _coded(
        self, coefficients: NDArray[np.float64], steps: NDArray[np.int64], weights: NDArray[np.int64]
    ) -> list[bytes]:
        """Payloads of coefficients (N, D) at steps (N,) and lambdas (N,)."""
        from clip_feature_codec.codec.entropy.quantisers import ROOM
        from clip_feature_codec.codec.semantic import payloads, trellis

        coded = self._coded_width(int(steps.min(initial=STEPS - 1)))
        factors = _FINEST_UNITS / _step_sizes(steps)
        targets = np.rint(coefficients[:, :coded] * factors[:, None]).astype(np.int64)
        out = np.empty((len(steps), ROOM * (coded + 1)), np.uint8)
        scales = self.scales[:coded].astype(np.int64)
        levels, work = _step_levels(steps), trellis.workspace(coded)
        sizes = payloads.code(targets, scales, levels, weights, self.magnitudes, trellis.MACHINE, work, out)
        return [
            bytes([step]) + out[row, :size].tobytes()
            for row, (step, size) in enumerate(zip(steps.tolist(), sizes.tolist(), strict=True))
        ]

    def encode_to_bytes(self, unit: NDArray[np.float32], limits: NDArray[np.integer[Any]]) -> list[bytes]:
        """Payloads of at most so many bytes, as good as they come.

        The finest step that fits is found first; then, while more than a byte is left, the next finer ones
        with more weight on the rate.

        Args:
            unit: float32 (N, D), unit length.
            limits: integers (N,), at least `smallest`.

        Raises:
            ConfigError: a limit is below `smallest`.
        """
        if len(unit) and np.min(limits) < self.smallest:
            found, expected = f"a limit of {np.min(limits)} bytes", f"{self.smallest} or more"
            raise ConfigError(f"klt payload: found {found}, expected {expected}")
        payloads: list[bytes] = []
        for first in range(0, len(unit), _ROWS):
            block = unit[first : first + _ROWS]
            search = ByteSearch(self._coding(block), len(block))
            payloads += search.within(np.asarray(limits[first : first + _ROWS], np.int64))
        return payloads

    def _coding(self, unit: NDArray[np.float32]) -> Coding:
        """What codes some rows of a block, float32 (N, D)."""
        coefficients = self._coefficients(unit)
        return lambda rows, steps, weights: self._coded(coefficients[rows], steps, weights)

    def encode_to_cosine(self, unit: NDArray[np.float32], target: float) -> list[bytes]:
        """Payloads whose vectors have at least this cosine: the coarsest step, then the greatest lambda.

        Args:
            unit: float32 (N, D), unit length.
            target: in float64, between the vector as given and the float32 vector that `decode` gives.

        Raises:
            ConfigError: a vector does not reach the target at the finest step; the message says what all
                of them do reach.
        """
        payloads: list[bytes] = []
        for first in range(0, len(unit), _ROWS):
            block = unit[first : first + _ROWS]
            search = CosineSearch(self._coding(block), self._closeness(block), len(block))
            found = search.reaching(target)
            if found is None:
                finest = self.decode(self.encode(unit, np.zeros(len(unit), np.int64)))
                raise out_of_reach(target, cosines(unit, finest))
            payloads += found
        return payloads

    def _closeness(self, unit: NDArray[np.float32]) -> Closeness:
        """What compares some rows of a block, float32 (N, D), with what their payloads decode to."""
        return lambda payloads, rows: cosines(unit[rows], self.decode(payloads))

    def _coded_width(self, step: int) -> int:
        """How many coefficients are coded at a step byte: up to the last one that is wide enough."""
        from clip_feature_codec.codec.semantic.levels import LOWEST_LEVEL

        wide = np.flatnonzero(self.scales - _step_levels(np.array(step)) >= LOWEST_LEVEL)
        return int(wide[-1]) + 1 if wide.size else 0

    def decode(self, payloads: Sequence[bytes]) -> NDArray[np.float32]:
        """Unit vectors (N, D) of payloads.

        Raises:
            BitstreamError: a payload is empty, or no stream of ours.
        """
        vectors = np.empty((len(payloads), self.dim), np.float32)
        for first in range(0, len(payloads), _ROWS):
            vectors[first : first + _ROWS] = self._decoded(payloads[first : first + _ROWS])
        return vectors

    def _decoded(self, blobs: Sequence[bytes]) -> NDArray[np.float32]:
        """Unit vectors (N, D) of a block's payloads."""
        from clip_feature_codec.codec.semantic import payloads, trellis

        if not all(blobs):
            raise BitstreamError("klt payload: found 0 bytes, expected 1 or more")
        steps = np.array([payload[0] for payload in blobs], np.int64)
        data = np.frombuffer(b"".join(payload[1:] for payload in blobs), np.uint8)
        ends = np.zeros(len(blobs) + 1, np.int64)
        np.cumsum([len(payload) - 1 for payload in blobs], out=ends[1:])
        coded = self._coded_width(int(steps.min(initial=STEPS - 1)))
        scales = self.scales[:coded].astype(np.int64)
        values = np.zeros((len(blobs), coded), np.int64)
        levels = _step_levels(steps)
        bad = payloads.decode(data, ends, scales, levels, self.magnitudes, trellis.MACHINE, values)
        if bad >= 0:
            found = f"{len(blobs[bad])} bytes that are no stream of {coded} coefficients"
            raise BitstreamError(f"klt payload: found {found}, expected one")
        offsets = values.astype(np.float64) @ self._directions[:coded]
        offsets *= (_step_sizes(steps) / (1 << _FRACTION_BITS))[:, None]
        return _normalised(offsets + self.mean)


_FINEST_UNITS = 2.0 ** (_FRACTION_BITS - 2 * UNIT_BITS)


def _step_sizes(steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """The steps (N,) that step bytes (N,) stand for."""
    mantissas = np.array(STEP_MANTISSAS, np.float64)[steps % 16]
    return np.ldexp(mantissas, (steps // 16 - STEP_ONE // 16 - 16).astype(np.int32))


def _step_levels(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """16 log2 of twice the step, (N,), of step bytes (N,)."""
    return steps - STEP_ONE + 16


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Unit float32 vectors (N, D) of finite float64 rows (N, D); of zero, the first axis.

    Each row is rounded to integers below 2^24, whose squares add up exactly in int64; the root and the
    quotients are correctly rounded, so the result does not depend on the machine.
    """
    _, exponents = np.frexp(np.abs(vectors).max(axis=1))
    whole = np.rint(np.ldexp(vectors, (_NORM_BITS - exponents)[:, None]))
    whole[~whole.any(axis=1), 0] = 1
    squares = np.square(whole.astype(np.int64)).sum(axis=1)
    unit: NDArray[np.float32] = (whole / np.sqrt(squares.astype(np.float64))[:, None]).astype(np.float32)
    return unit
