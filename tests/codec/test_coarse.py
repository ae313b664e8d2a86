"""Coarse codes: no product is above its limit, and few limits are far above their products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_native import runnable

from clip_feature_codec.codec import native
from clip_feature_codec.codec.semantic import coarse
from clip_feature_codec.codec.semantic.coarse import STAGES, CoarseFrame, CoarseQuery, products
from clip_feature_codec.errors import ConfigError


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@settings(deadline=None, max_examples=60)
@given(
    dim=st.sampled_from([1, 2, 3, 5, 16, 17, 64, 100, 200]),
    fitted=st.sampled_from([0, 1, 7, 200]),
    spread=st.sampled_from([0.0, 1e-7, 1e-3, 0.3, 30.0]),
    place=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_product_is_above_its_limit(dim: int, fitted: int, spread: float, place: float, seed: int) -> None:
    """After any stage; vectors crowded or spread, the frame fitted on none, few or all, or on others."""
    rng = np.random.default_rng(seed)
    vectors = unit(
        rng.normal(size=dim) + spread * rng.normal(size=(200, dim)) * np.arange(1, dim + 1) ** -0.7
    )
    frame = CoarseFrame.fit(vectors[:fitted], dim)
    every = np.concatenate([vectors, unit(rng.normal(size=(20, dim)))])
    codes = frame.encode(every)
    assert [rows.shape for rows in codes] == [(220, words) for words in frame.row_words]
    for query in (vectors[0], -vectors[1], unit(rng.normal(size=dim))):
        ready, exact = frame.query(query), every @ query
        for stages in range(1, STAGES + 1):
            rows, limits = first_stages(ready, stages).scan(codes[:stages])
            assert rows.tolist() == list(range(220))
            assert (limits >= exact).all()
        floor = float(np.quantile(exact, place))
        rows, some = ready.scan(codes, floor)
        assert set(np.flatnonzero(exact >= floor)) <= set(rows.tolist())
        assert (some == limits[rows]).all()
        above = float(limits[np.isfinite(limits)].max(initial=0)) + 1e-3
        assert set(ready.scan(codes, above)[0].tolist()) <= set(np.flatnonzero(np.isinf(limits)).tolist())


def first_stages(query: CoarseQuery, count: int) -> CoarseQuery:
    return CoarseQuery(query.stages[:count], query.unit, query.offset)


def test_limits_are_narrow_for_vectors_like_those_that_were_fitted() -> None:
    rng = np.random.default_rng(0)
    around = rng.normal(size=(3000, 512)) * np.arange(1, 513) ** -0.5
    vectors = unit(rng.normal(size=512) * 0.15 + around)  # a mean as long as what lies around it
    frame = CoarseFrame.fit(vectors, 512)
    assert frame.row_words == [25, 33, 41, 65]
    query, codes = frame.query(vectors[0]), frame.encode(vectors)
    for stages, above in ((1, 0.25), (2, 0.15), (3, 0.08), (4, 0.04)):
        limits = first_stages(query, stages).scan(codes[:stages])[1]
        assert np.median(limits - vectors @ vectors[0]) < above
        assert (codes[stages - 1][:, -1] & 255 < 255).all()


def test_a_length_that_is_not_known_is_no_limit() -> None:
    frame = CoarseFrame.fit(np.eye(8), 8)
    codes = frame.encode(np.eye(8))
    codes[0][5, -1] |= 0xFF00
    for rows in codes:
        rows[3, -1] |= 0x00FF
    for floor in (-np.inf, 0.9):
        rows, limits = frame.query(np.eye(8)[5]).scan(codes, floor)
        found = dict(zip(rows.tolist(), limits.tolist(), strict=True))
        assert found.pop(3) == np.inf
        assert 1 <= found.pop(5) < 1.2  # the last stage knows it
        assert np.isfinite(list(found.values())).all()


def test_sums_are_those_of_the_formula() -> None:
    """Another way to the same numbers: fields taken out of the words by numpy."""
    rng = np.random.default_rng(1)
    frame = CoarseFrame.fit(unit(rng.normal(size=(50, 300))), 300)
    codes = tuple(
        np.column_stack(
            [rng.integers(0, 1 << 16, (40, w - 1), np.uint16), rng.integers(0, 255, 40, np.uint16) * 257]
        )
        for w in frame.row_words
    )
    query, sums = frame.query(unit(rng.normal(size=300))), np.zeros(40, np.int64)
    limits = []
    for stage, rows in zip(query.stages, codes, strict=True):
        kinds = np.split(rows.astype(np.int64), np.cumsum(stage.sizes), axis=1)
        fields = [
            words >> at & (1 << bits) - 1
            for words, bits in zip(kinds, (8, 4, 2), strict=False)
            for at in range(0, 16, bits)
        ]
        sums += np.hstack(fields) @ stage.weights.astype(np.int64) + stage.base
        limits.append(sums + stage.missed * (kinds[-1][:, 0] & 255) + stage.uncoded * (kinds[-1][:, 0] >> 8))
    expected = np.min(limits, axis=0) * query.unit + query.offset
    assert query.scan(codes)[1].tolist() == expected.tolist()


def test_every_library_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    vectors = unit(rng.normal(size=(700, 512)))
    frame = CoarseFrame.fit(vectors, 512)
    query, codes = frame.query(vectors[5]), frame.encode(vectors)
    fine, some = np.rint(vectors * 32767).astype(np.int16), rng.permutation(700)[:50].astype(np.int32)
    found = []
    for library in runnable():
        monkeypatch.setattr(coarse, "loops", lambda path=library: native.opened(path))
        rows, limits = query.scan(codes, 0.15)
        found.append((rows.tolist(), limits.tolist(), products(fine, some, fine[5]).tolist()))
    assert 1 < len(found[0][0]) < 700
    assert all(one == found[0] for one in found)
    assert found[0][2] == (fine[some].astype(np.int64) @ fine[5].astype(np.int64)).tolist()


def test_products_with_rows_that_are_none_of_the_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="rows"):
        products(np.ones((3, 4), np.int16), np.array([1, 3], np.int32), np.ones(4, np.int16))


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
