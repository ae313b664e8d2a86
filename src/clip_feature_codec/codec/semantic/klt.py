"""The ``klt`` profile: mean removed, Karhunen-Loeve transform, dependent quantisation, integer tables.

A payload is a step byte b and an arithmetic-coded stream. The step is 2^((b - 208) / 16): one for all
coefficients, which is reverse water-filling (Cover and Thomas, "Elements of Information Theory", section
10.3.3).

Every number that the decoder decides on, or the encoder at a step, is an integer, or a float64 that one
correctly rounded operation made of integers: matrix products are float64 sums of integers below 2^53, which
are exact in any order. So streams and vectors are the same on every machine, with every BLAS. Which steps are
tried for a limit is told by logarithms, too, whose last bit may differ between machines: once in a great many
payloads, another one as good is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import Magnitudes, builtin
from clip_feature_codec.codec.entropy.tables import from_base64, to_base64
from clip_feature_codec.codec.search import (
    ANY_LENGTH,
    Coded,
    Coding,
    Floats,
    Ints,
    Search,
)
from clip_feature_codec.codec.semantic.klt_block import (
    FRACTION_BITS,
    STEPS,
    UNIT_BITS,
    WEIGHT,
    Block,
    Frame,
    step_levels,
    step_sizes,
    widths,
)
from clip_feature_codec.codec.semantic.klt_usual import Usual
from clip_feature_codec.codec.semantic.vectors import cosines, out_of_reach
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError

MAX_DIM = 8192
_NORM_BITS = 24
_ROWS = 2048  # vectors at once: what is held for each is a few times 8 D bytes


_SMALL = 64  # bytes: a share of them is what may be left of smaller payloads, too
_FINER = 1, -1  # steps than where a limit is met, at which others are tried where more is left
_ERROR_LEFT = 0.05  # share of an error that may be left over
_FLOAT32 = 3e-8  # what rounding vectors may take of a cosine
_NARROWER = 0.0005  # of an error: by how much less is asked for at least, where it was too much
_ORTHONORMAL = 0.01  # products of the rounded basis are as near to those of an orthonormal one
_UNIT_SQUARE = 1 << 2 * UNIT_BITS
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
    def fit(
        cls,
        vectors: NDArray[np.float32] | Iterable[NDArray[np.float32]],
        queries: NDArray[np.float32] | None = None,
    ) -> KltCoder:
        """Make tables from sample vectors (see `klt_fit.fit` and `klt_weights.Weighting`).

        Args:
            vectors: float (N, D), N >= 1, unit length, finite; or blocks of such, read once.
            queries: float (M, D), unit length, finite: what coded vectors are searched with. Errors along the
                directions in which these differ weigh more.

        Raises:
            ConfigError: a shape is not (N, D) with the same D from 1 to 8192, or there is no vector.
        """
        from clip_feature_codec.codec.semantic import klt_fit

        if queries is None:
            mean, basis, spreads = klt_fit.fit(vectors)
        else:
            from clip_feature_codec.codec.semantic.klt_weights import Weighting

            weighting = Weighting.of(queries)
            blocks = [vectors] if isinstance(vectors, np.ndarray) else vectors
            mean, basis, spreads = klt_fit.fit(weighting.weighted(block) for block in blocks)
            mean, basis = weighting.undone(mean), weighting.undone(basis)
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
        for block, chosen in self._blocks(unit, np.asarray(steps, np.int64)):
            rows, every = np.arange(len(chosen)), np.full((2, len(chosen)), [[WEIGHT], [ANY_LENGTH]])
            payloads += block.code(rows, chosen, *every).payloads
        return payloads

    def _blocks(self, unit: NDArray[np.float32], numbers: Ints) -> Iterator[tuple[Block, Ints]]:
        """Unit vectors (N, D) and what goes with each, (N,), some at once."""
        analysis = self._analysis
        place = self._placed if analysis is None else partial(self._placed_by_weight, analysis=analysis)
        for first in range(0, len(unit), _ROWS):
            rounded = np.rint(unit[first : first + _ROWS].astype(np.float64) * (1 << UNIT_BITS))
            yield Block(self._frame, *place(rounded)), numbers[first : first + _ROWS]

    def _placed(self, rounded: Floats) -> tuple[Floats, Floats]:
        """Coefficients of vectors (N, D) in 2^-15, and what `Block` asks of their lengths."""
        offsets = rounded - self.mean.astype(np.float64)
        products = np.stack([_squares(rounded), _squares(offsets)]) / _UNIT_SQUARE
        return offsets @ self._directions.T, products

    def _placed_by_weight(self, rounded: Floats, analysis: Floats) -> tuple[Floats, Floats]:
        """The same where the basis is not orthonormal: lengths are those that weighted vectors have.

        A vector and its multiples are one, so it is brought to a unit length there, too.
        """
        places = rounded @ analysis
        places *= (1 << 2 * UNIT_BITS) / np.sqrt(_squares(places))[:, None]
        coefficients = np.rint(places - self._frame.mean * (1 << UNIT_BITS))
        squares = _squares(coefficients) / _UNIT_SQUARE**2
        return coefficients, np.stack([np.ones(len(squares)), squares])

    @cached_property
    def _analysis(self) -> Floats | None:
        """What takes vectors to places along the basis, (D, D), if not its transpose; whole numbers.

        Raises:
            ConfigError: nothing does: some vectors have no place.
        """
        products = self._directions @ self._directions.T / _UNIT_SQUARE
        if np.abs(products - np.eye(self.dim)).max() < _ORTHONORMAL:
            return None
        try:
            inverse = np.linalg.inv(self._directions / (1 << UNIT_BITS))
        except np.linalg.LinAlgError:
            raise ConfigError("klt basis: found dependent rows, expected independent ones") from None
        whole: Floats = np.rint(inverse * (1 << UNIT_BITS))
        return whole

    @cached_property
    def _frame(self) -> Frame:
        mean = self.mean.astype(np.float64)
        places = self._directions @ mean if self._analysis is None else mean @ self._analysis
        along = np.rint(places / (1 << UNIT_BITS))
        square = mean @ mean if self._analysis is None else along @ along
        scales, length = self.scales.astype(np.int64), float(square) / _UNIT_SQUARE
        return Frame(scales, along.astype(np.int64), length, self.magnitudes)

    @cached_property
    def _usual(self) -> Usual:
        return Usual.of(self._frame)

    def encode_to_bytes(self, unit: NDArray[np.float32], limits: NDArray[np.integer[Any]]) -> list[bytes]:
        """Payloads of at most so many bytes, as good as they come.

        A byte may be left over at first, of small ones less.

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
        for block, numbers in self._blocks(unit, np.asarray(limits, np.int64)):
            most = numbers.astype(np.float64)
            search = Search(block.code, most, True, WEIGHT, STEPS - 1)
            course = self._usual.bytes.course(block.bytes_about, most)
            search.meet(course, 1 / np.maximum(most, _SMALL), _FINER)
            payloads += search.found(bytes([STEPS - 1]))
        return payloads

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
        for block, rows in self._blocks(unit, np.arange(len(unit))):
            found = self._near(block, unit[rows], target)
            if found is None:
                finest = self.decode(self.encode(unit, np.zeros(len(unit), np.int64)))
                raise out_of_reach(target, cosines(unit, finest))
            payloads += found
        return payloads

    def _near(self, block: Block, unit: NDArray[np.float32], target: float) -> list[bytes] | None:
        """Payloads whose vectors have at least a cosine; None where one cannot have it.

        What a search takes for the error is not quite what decoding leaves; where that is too much, it is
        made again for less.
        """
        limit, payloads, narrower = 1 - target, [b""] * len(unit), np.full(len(unit), _FLOAT32)
        rows = np.arange(len(unit))
        while rows.size:
            some = block if rows.size == len(unit) else block.of(rows)
            coding = some.draft if self._analysis is None else self._measured(some, unit[rows])
            found, steps, values = some.write(self._nearest(some, coding, limit - narrower[rows]))
            spared = np.where(narrower[rows] < limit, _FLOAT32, 0.0)  # nothing, where the finest step is all
            short = target + spared - cosines(unit[rows], self._synthesised(steps, values))
            for row, payload in zip(rows, found, strict=True):
                payloads[row] = payload
            rows, short = rows[short > 0], short[short > 0]
            if (narrower[rows] >= limit).any():
                return None
            narrower[rows] = 2 * np.maximum(narrower[rows] + short, _NARROWER * limit)
        return payloads

    def _measured(self, block: Block, unit: NDArray[np.float32]) -> Coding:
        """What drafts vectors, float32 (N, D), with the errors that decoding leaves, weighted or not."""

        def drafted(rows: Ints, steps: Ints, weights: Ints, most: Ints) -> Coded:
            drafts, lengths, _ = block.draft(rows, steps, weights, most)
            _, steps, values = block.write(drafts)
            return Coded(drafts, lengths, 1 - cosines(unit[rows], self._synthesised(steps, values)))

        return drafted

    def _nearest(self, block: Block, coding: Coding, limits: Floats) -> list[bytes]:
        """Drafts with errors within limits (N,), about; where none is, those of the finest step."""
        possible = np.maximum(limits, np.finfo(float).tiny)
        search = Search(coding, possible, False, WEIGHT, STEPS - 1)
        windows = np.full(len(limits), _ERROR_LEFT)
        search.approach(self._usual.errors.course(block.errors_about, possible), windows)
        rows = np.array([row for row, draft in enumerate(search.best) if draft is None], np.int64)
        every = np.full((3, len(rows)), [[0], [WEIGHT], [ANY_LENGTH]])
        for row, draft in zip(rows, block.draft(rows, *every).payloads, strict=True):
            search.best[row] = draft
        return search.found(b"")

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
        scales = self.scales.astype(np.int64)
        coded = int(widths(scales, steps).max(initial=0))
        values = np.zeros((len(blobs), coded), np.int64)
        levels = step_levels(steps)
        bad = payloads.decode(data, ends, scales[:coded], levels, self.magnitudes, trellis.MACHINE, values)
        if bad >= 0:
            found = f"{len(blobs[bad])} bytes that are no stream of {coded} coefficients"
            raise BitstreamError(f"klt payload: found {found}, expected one")
        return self._synthesised(steps, values)

    def _synthesised(self, steps: Ints, values: Ints) -> NDArray[np.float32]:
        """Unit vectors (N, D) of coefficients (N, n) in 2^-8 of their steps (N,)."""
        offsets = values.astype(np.float64) @ self._directions[: values.shape[1]]
        offsets *= (step_sizes(steps) / (1 << FRACTION_BITS))[:, None]
        return _normalised(offsets + self.mean)


def _squares(vectors: Floats) -> Floats:
    """Squared lengths (N,) of vectors (N, D)."""
    squared: Floats = np.square(vectors).sum(axis=1)
    return squared


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
