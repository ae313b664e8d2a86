"""Pairs of points near each other: those of all pairs, each once, on every processor."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_native import runnable

from clip_feature_codec.codec import native
from clip_feature_codec.codec.semantic import near_pairs
from clip_feature_codec.codec.semantic.near_pairs import (
    AXES,
    BOX,
    LEADING,
    LONGEST,
    TILE,
    NearPairs,
    Stretch,
    boxed,
)


def drawn(count: int, clusters: int, spread: float, seed: int) -> np.ndarray:
    """Points around a few, the variance falling from axis to axis, some of them as far out as may be."""
    rng = np.random.default_rng(seed)
    falling = np.arange(1, AXES + 1) ** -0.5
    centres = rng.normal(size=(clusters, AXES)) * falling
    points = centres[rng.integers(clusters, size=count)] + spread * rng.normal(size=(count, AXES)) * falling
    points[:2] = np.eye(AXES)[0] * 1e6 * np.array([[1], [-1]])[:count]
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    points *= np.minimum(4000, (LONGEST - 7) / np.maximum(lengths, 1e-9))
    return np.rint(points).astype(np.int16)


def squares_apart(points: np.ndarray) -> np.ndarray:
    """Of all pairs, exact: float64 holds these whole numbers."""
    whole = points.astype(np.float64)
    squares = np.square(whole).sum(axis=1)
    return squares[:, None] + squares - 2 * whole @ whole.T


def found(near: NearPairs) -> np.ndarray:
    """All pairs, (n, 2), the smaller point first."""
    every = []
    for tile in range(near.tiles):
        rest: Stretch | None = Stretch(tile)
        while rest:
            pairs, rest = near.some(rest)
            every.append(pairs)
    return np.sort(np.concatenate(every), axis=1)


@settings(deadline=None, max_examples=25)
@given(
    count=st.sampled_from([1, 2, BOX, BOX + 1, 300, TILE + 1, 2 * TILE + 70]),
    clusters=st.integers(1, 40),
    spread=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    share=st.sampled_from([0.0, 1e-5, 1e-3, 0.05, 1.0]),
    ordered=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    library=st.sampled_from(runnable()),
)
def test_pairs_are_those_of_all(
    count: int, clusters: int, spread: float, share: float, ordered: bool, seed: int, library: Path
) -> None:
    """At any reach, one that is a pair's very distance; few pairs at a time, so that stretches go on."""
    points = drawn(count, clusters, spread, seed)
    points = points[boxed(points[:, :LEADING])] if ordered else points
    squares = squares_apart(points)
    above = np.triu_indices(count, 1)
    reach = np.quantile(squares[above], share, method="lower") if count > 1 else 5.0
    with (
        patch.object(near_pairs, "_ROOM", TILE + 1000),
        patch.object(near_pairs, "loops", lambda: native.opened(library)),
    ):
        pairs = found(NearPairs(points, reach))
    expected = np.flatnonzero(np.triu(squares <= reach, 1))
    assert np.array_equal(np.sort(pairs[:, 0] * np.int64(count) + pairs[:, 1]), expected)


def test_an_order_has_every_point_once_and_boxes_are_compact() -> None:
    points = drawn(5000, 200, 0.3, 1)
    order = boxed(points[:, :LEADING])
    assert sorted(order.tolist()) == list(range(5000))
    spread = [points[order[i : i + BOX], 0].std() for i in range(0, 5000, BOX)]
    assert np.mean(spread) < points[:, 0].std() / 2
    assert len(boxed(points[:0, :LEADING])) == 0


def test_points_are_of_one_kind() -> None:
    with pytest.raises(ValueError, match="expected int16"):
        NearPairs(np.zeros((5, AXES - 1), np.int16), 1.0).some(Stretch(0))
