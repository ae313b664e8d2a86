"""Coarse codes: no product is above its limit, and few limits are far above their products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.semantic.coarse import CoarseFrame, Codes
from clip_feature_codec.errors import ConfigError


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@settings(deadline=None, max_examples=60)
@given(
    dim=st.sampled_from([1, 2, 3, 5, 16, 17, 64, 100, 200]),
    fitted=st.sampled_from([0, 1, 7, 200]),
    spread=st.sampled_from([0.0, 1e-7, 1e-3, 0.3, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_product_is_above_its_limit(dim: int, fitted: int, spread: float, seed: int) -> None:
    """Vectors crowded or spread, the frame fitted on none, few or all of them, or on others."""
    rng = np.random.default_rng(seed)
    vectors = unit(
        rng.normal(size=dim) + spread * rng.normal(size=(200, dim)) * np.arange(1, dim + 1) ** -0.7
    )
    frame = CoarseFrame.fit(vectors[:fitted], dim)
    strangers = unit(rng.normal(size=(20, dim)))
    every = np.concatenate([vectors, strangers])
    codes = frame.encode(every)
    assert codes.levels.shape == (220, frame.row_bytes)
    for query in (vectors[0], -vectors[1], unit(rng.normal(size=dim))):
        ready = frame.query(query)
        sums = ready.limits(codes)
        assert (ready.value(sums) >= every @ query).all()
        product = float(every[5] @ query)
        assert ready.sum_at(product) <= sums[5]


def test_limits_are_narrow_for_vectors_like_those_that_were_fitted() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=512) * 0.05 + rng.normal(size=(3000, 512)) * np.arange(1, 513) ** -0.5)
    frame = CoarseFrame.fit(vectors, 512)
    assert frame.row_bytes == 184
    query = frame.query(vectors[0])
    above = query.value(query.limits(frame.encode(vectors))) - vectors @ vectors[0]
    assert np.median(above) < 0.2
    assert (frame.encode(vectors).radii < 255).all()


def test_a_radius_that_is_not_known_is_no_limit() -> None:
    frame = CoarseFrame.fit(np.eye(8), 8)
    codes = frame.encode(np.eye(8))
    codes.radii[3, 1] = 255
    query = frame.query(np.eye(8)[0])
    values = query.value(query.limits(codes))
    assert values[3] == np.inf
    assert np.isfinite(np.delete(values, 3)).all()


def test_sums_are_those_of_the_formula() -> None:
    """Another way to the same numbers: fields taken out of the bytes by numpy."""
    rng = np.random.default_rng(1)
    frame = CoarseFrame.fit(unit(rng.normal(size=(50, 100))), 100)
    codes = Codes(
        rng.integers(0, 256, (40, frame.row_bytes), np.uint8), rng.integers(0, 255, (40, 3), np.uint8)
    )
    query = frame.query(unit(rng.normal(size=100)))
    groups = np.split(codes.levels.astype(np.int64), np.cumsum(query.row_bytes)[:-1], axis=1)
    fields = [groups[0], groups[1] & 15, groups[1] >> 4, *(groups[2] >> 2 * k & 3 for k in range(4))]
    expected = (
        np.hstack(fields) @ query.weights.astype(np.int64) + codes.radii.astype(np.int64) @ query.reaches
    )
    assert query.limits(codes).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("mean", "axes", "steps"),
    [
        (np.zeros(3), np.eye(4), np.ones(4)),
        (np.zeros(4), np.eye(4), np.zeros(4)),
        (np.zeros(4), np.eye(4), np.full(4, -1)),
        (np.zeros(4), np.full((4, 4), np.nan), np.ones(4)),
        (np.zeros(0), np.zeros((0, 0)), np.zeros(0)),
    ],
)
def test_numbers_that_are_no_frame_are_refused(mean: np.ndarray, axes: np.ndarray, steps: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="coarse codes"):
        CoarseFrame(*(array.astype(np.float32) for array in (mean, axes, steps)))
