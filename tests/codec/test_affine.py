from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.errors import ConfigError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sample(count: int = 300, dim: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return unit(rng.normal(rng.normal(0, 1, dim), 0.5, (count, dim)))


@pytest.mark.parametrize("count", [1, 2, 300])
def test_fit_agrees_with_the_formula_in_plain_python(count: int) -> None:
    vectors = sample(count)
    dim = vectors.shape[1]
    fitted = AffineQuantizer.fit(vectors)
    for channel in range(dim):
        values = [float(value) for value in vectors[:, channel]]
        mean = statistics.fmean(values)
        spread = math.sqrt((count * statistics.pvariance(values) + 8 / dim) / (count + 8))
        low, high = min(*values, mean - 4 * spread, 9), max(*values, mean + 4 * spread, -9)
        assert fitted.minimum[channel] == pytest.approx(low, abs=1e-6)
        assert fitted.step[channel] == pytest.approx((high - low) / 255, rel=1e-5)


def test_fit_takes_more_vectors_than_one_block() -> None:
    vectors = sample(9000, dim=3)
    spread = np.sqrt((9000 * vectors.astype(np.float64).var(axis=0) + 8 / 3) / 9008)
    low = np.minimum(vectors.min(axis=0), vectors.astype(np.float64).mean(axis=0) - 4 * spread)
    np.testing.assert_allclose(AffineQuantizer.fit(vectors).minimum, low, atol=1e-6)


def test_an_outlier_widens_the_range() -> None:
    vectors = np.full((100, 2), 0.01, dtype=np.float32)
    vectors[7] = [0.9, -0.9]
    fitted = AffineQuantizer.fit(vectors)
    codes = fitted.quantize(vectors[7:8])
    np.testing.assert_allclose(fitted.dequantize(codes)[0], [0.9, -0.9], atol=float(fitted.step.max()))


def test_error_is_at_most_half_a_step_inside_the_range() -> None:
    vectors = sample()
    fitted = AffineQuantizer.fit(vectors)
    error = np.abs(fitted.dequantize(fitted.quantize(vectors)) - vectors)
    assert (error <= fitted.step * 0.5001).all()


def test_every_level_comes_back() -> None:
    fitted = AffineQuantizer.fit(sample())
    codes = np.repeat(np.arange(256, dtype=np.uint8)[:, None], fitted.dim, axis=1)
    np.testing.assert_array_equal(fitted.quantize(fitted.dequantize(codes)), codes)


def test_ties_go_to_even_and_outside_is_clamped() -> None:
    quantizer = AffineQuantizer(np.zeros(1, np.float32), np.ones(1, np.float32))
    values = np.array([[-1e30], [-0.6], [0.5], [1.5], [2.5], [254.5], [255.6], [1e30]], np.float32)
    assert quantizer.quantize(values)[:, 0].tolist() == [0, 0, 0, 2, 2, 254, 255, 255]


def test_dtypes() -> None:
    fitted = AffineQuantizer.fit(sample())
    codes = fitted.quantize(sample())
    assert codes.dtype == np.uint8
    assert fitted.minimum.dtype == fitted.step.dtype == fitted.dequantize(codes).dtype == np.float32


def test_tables_cannot_be_changed_from_outside() -> None:
    minimum = np.zeros(2, np.float32)
    quantizer = AffineQuantizer(minimum, np.ones(2, np.float32))
    minimum[0] = 5
    assert quantizer.minimum[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        quantizer.step[0] = 5


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 16)),
        elements=st.floats(-1, 1, width=32),
    )
)
def test_any_vectors_fit_and_come_back_within_half_a_step(vectors: np.ndarray) -> None:
    fitted = AffineQuantizer.fit(vectors)
    assert (fitted.step > 0).all()
    error = np.abs(fitted.dequantize(fitted.quantize(vectors)).astype(np.float64) - vectors)
    assert (error <= fitted.step * 0.51).all()


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 0), (2, 2, 2)])
def test_fit_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"found vectors of shape .*expected \(N, D\)"):
        AffineQuantizer.fit(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("minimum", "step", "message"),
    [
        ([0.0, 0.0], [1.0], "shapes"),
        ([], [], "shapes"),
        ([[0.0]], [[1.0]], "shapes"),
        ([math.nan], [1.0], "not finite"),
        ([0.0], [math.inf], "not finite"),
        ([0.0], [3e38], "not finite"),
        ([0.0], [0.0], "expected positive steps"),
        ([0.0], [-1.0], "expected positive steps"),
    ],
)
def test_unusable_tables_are_refused(minimum: list[float], step: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AffineQuantizer(np.array(minimum, np.float32), np.array(step, np.float32))
