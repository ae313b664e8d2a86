"""The nearest pictures: those of a search through all decoded vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_samples import DIM, assert_exact, brute_force, found, make_store, space, unit_vectors

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.search import indexing
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture


@settings(deadline=None, max_examples=25)
@given(
    dim=st.sampled_from([2, 3, 8, 17, 32]),
    count=st.integers(1, 60),
    spread=st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0]),
    copies=st.integers(1, 3),
    wanted=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_results_are_those_of_a_search_through_all_decoded_vectors(
    tmp_path_factory: pytest.TempPathFactory,
    dim: int,
    count: int,
    spread: float,
    copies: int,
    wanted: int,
    seed: int,
) -> None:
    """Vectors spread out or crowded, with copies, so that cosines tie, in 2 dimensions and more."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.normal(size=dim) + spread * rng.normal(size=(count, dim)), copies, axis=0)
    store = make_store(tmp_path_factory.mktemp("any") / "store", vectors.astype(np.float32))
    index = SearchIndex.open(store)
    for query in (vectors[0] + 0.01, rng.normal(size=dim), -vectors[-1]):
        assert_exact(index, query.astype(np.float32), wanted)


@pytest.mark.parametrize(
    ("dim", "large", "expected"), [(24, 1.0, 12), (24, 3.0, 96), (24, 30.0, 600), (3, 1.0, 600)]
)
def test_few_candidates_are_enough_and_where_they_are_not_more_are_taken(
    tmp_path: Path, dim: int, large: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One channel may be far larger than the others, as in CLIP; in three dimensions vectors are crowded."""
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._FIRST_CANDIDATES", 5)
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._OUTLIERS", 9)
    vectors = unit_vectors(600, 1, dim)
    vectors[:, 1] = large * (vectors[:, 1] + 1)
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    taken: list[int] = []
    plain = index._candidates
    monkeypatch.setattr(index, "_candidates", lambda unit, count: taken.append(count) or plain(unit, count))
    for query in vectors[:10] + 0.1 * unit_vectors(10, 2, dim):
        assert_exact(index, query, 3)
    assert max(taken) <= expected
    assert (max(taken) > 12) == (expected > 12)


def test_limits_are_never_below_the_cosines(searched: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._OUTLIERS", 3)
    index = SearchIndex.open(searched)
    vectors = searched.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [index.members(row) for row in range(len(index.file.rows))]
    position = {entry.name: i for i, entry in enumerate(searched.entries)}
    for query in unit_vectors(20, 5).astype(np.float64):
        unit = query / np.linalg.norm(query)
        cosines = np.array([vectors[position[entries[0].name]] @ unit for entries in rows])
        limits = index._limits(unit, np.arange(len(rows)))
        assert (limits >= cosines).all()
        assert (limits < cosines + 2e-3).all()
        for count in (1, 7, 39):
            candidates, ceiling = index._candidates(unit, count)
            others = np.setdiff1d(np.arange(len(rows)), candidates)
            assert (cosines[others] <= ceiling).all()


def test_a_query_may_have_any_length_and_count_any_size(searched: FeatureStore) -> None:
    index, query = SearchIndex.open(searched), unit_vectors(1, 7)[0]
    small, large = (dict(found(index, query * np.float32(factor), 4)) for factor in (1e-30, 1e30))
    assert small == pytest.approx(large)
    assert len(index.nearest(query, 1000)) == len(index) == 40


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (np.zeros(DIM), 1),
        (np.full(DIM, np.nan), 1),
        (np.full(DIM, np.inf), 1),
        (np.ones(DIM + 1), 1),
        (np.ones((1, DIM)), 1),
        (np.ones(DIM), 0),
    ],
)
def test_queries_that_make_no_sense_are_refused(
    searched: FeatureStore, query: np.ndarray, count: int
) -> None:
    with pytest.raises(ConfigError, match=r"query|count"):
        SearchIndex.open(searched).nearest(query.astype(np.float32), count)


def test_a_store_without_streams_has_no_results(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(0))
    for _ in range(2):
        index = SearchIndex.open(store)
        assert (len(index), index.nearest(np.ones(DIM, np.float32), 3), index.failures) == (0, [], [])
    store = make_store(tmp_path / "store", unit_vectors(3))
    assert len(SearchIndex.open(store).nearest(np.ones(DIM, np.float32), 5)) == 3


def test_of_equal_streams_one_row_is_kept_and_all_pictures_are_found(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(5), 3, axis=0)
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    assert (len(index.file.rows), len(index)) == (5, 15)
    assert [name for name, _ in found(index, vectors[3], 4)[:3]] == ["p0003", "p0004", "p0005"]


def test_streams_that_vanish_after_they_were_indexed_are_noticed_when_they_are_found(
    searched: FeatureStore,
) -> None:
    SearchIndex.open(searched)
    query = searched.vectors()[5]
    expected = [name for name, _ in brute_force(searched, query, 4)]
    (searched.folder / f"{expected[0]}.clp").unlink()
    (searched.folder / f"{expected[2]}.clp").write_bytes(b"")
    index = SearchIndex.open(searched)
    assert index.failures == []
    assert [name for name, _ in found(index, query, 2)] == [expected[1], expected[3]]
    assert {Path(path).stem for path, _ in index.failures} == {expected[0], expected[2]}


def test_a_large_store_is_read_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_STREAMS_AT_ONCE", 7)
    monkeypatch.setattr(indexing, "_SAMPLE", 5)
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("clip_feature_codec.store.search.index_file._ROWS_AT_ONCE", 3)
    vectors = np.repeat(unit_vectors(20), 2, axis=0)
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    assert len(index.file.rows) == 20
    assert_exact(index, unit_vectors(1, 9)[0], 40)


def test_streams_of_different_steps_are_searched_exactly(tmp_path: Path) -> None:
    codec = FeatureCodec.fit_klt([unit_vectors(200, 99)], space())
    store = FeatureStore.create(tmp_path / "store", codec)
    for i, quality in enumerate((10, 50, 90)):
        pictures = [NewPicture(f"q{quality}/p{j}.jpg", 4, 3, 1, 1) for j in range(20)]
        store.add(tmp_path / "photos", pictures, Layers(unit_vectors(20, i)), rate=Rate(quality=quality))
    index = SearchIndex.open(store)
    for query in unit_vectors(5, 9):
        assert_exact(index, query, 60)
