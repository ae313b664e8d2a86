"""A picture's rank among all originals, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.vectors import retrieval_ranks


def features(count: int, seed: int, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def plain_ranks(queries: np.ndarray, gallery: np.ndarray) -> list[int]:
    ranks = []
    for i, query in enumerate(queries):
        cosines = [query @ other / np.linalg.norm(query) / np.linalg.norm(other) for other in gallery]
        ranks.append(1 + sum(cosine > cosines[i] for j, cosine in enumerate(cosines) if j != i))
    return ranks


@given(
    count=st.integers(1, 20),
    more=st.integers(0, 5),
    noise=st.sampled_from([0.1, 1, 5]),
    seed=st.integers(0, 99),
)
def test_ranks_are_those_of_a_plain_loop(count: int, more: int, noise: float, seed: int):
    gallery = features(count + more, seed)
    queries = (gallery[:count] + noise * features(count, seed + 1)) * 3
    ranks = retrieval_ranks(queries, gallery)
    assert ranks.dtype == np.int64
    assert ranks.tolist() == plain_ranks(queries.astype(np.float64), gallery.astype(np.float64))


def test_ranks_of_more_pictures_than_one_block_holds():
    gallery = features(2500, seed=3, dim=8)
    queries = gallery + 0.5 * features(2500, seed=4, dim=8)
    ranks = retrieval_ranks(queries, gallery)
    some = [0, 1, 1700, 2499]
    for i in some:
        swapped = gallery.copy()
        swapped[[0, i]] = swapped[[i, 0]]
        assert ranks[i] == plain_ranks(queries[i : i + 1], swapped)[0]
    assert 1 < ranks.mean() < 1250


def test_ties_count_against():
    gallery = features(7, seed=5)
    gallery[[1, 4]] = gallery[0], 3 * gallery[0]  # the same picture three times
    assert retrieval_ranks(gallery, gallery).tolist() == [3, 3, 1, 1, 3, 1, 1]
    assert retrieval_ranks(np.ones((5, 3)), np.ones((5, 3))).tolist() == [5] * 5


def test_features_of_zeros_find_nothing():
    gallery = np.eye(4)
    assert retrieval_ranks(np.zeros((2, 4)), gallery).tolist() == [4, 4]


def test_no_queries():
    assert retrieval_ranks(features(0, 0), features(3, 0)).shape == (0,)


@pytest.mark.parametrize(("queries", "gallery"), [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((4,), (3, 4))])
def test_other_shapes_are_refused(queries: tuple[int, ...], gallery: tuple[int, ...]):
    with pytest.raises(MetricError):
        retrieval_ranks(np.ones(queries), np.ones(gallery))
