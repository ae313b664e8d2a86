"""The nearest pictures: those of a search through all decoded vectors."""

from __future__ import annotations

import re
import sys
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
from clip_feature_codec.names import INDEX_FOLDER
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


@pytest.mark.parametrize("large", [0.0, 3.0])
def test_few_candidates_are_left_after_the_codes(tmp_path: Path, large: float) -> None:
    """Of vectors in clusters; one channel may be far larger than the others, as in CLIP."""
    centres = np.repeat(unit_vectors(60, 3, 128), 10, axis=0)
    vectors = centres + 0.7 * unit_vectors(600, 1, 128)
    vectors[:, 1] += large
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    for query in vectors[:100:10] + 0.1 * unit_vectors(10, 2, 128):
        unit = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
        coarse = index.file.frame.query(unit)
        third = index.nearest(query, 3)[-1].cosine
        assert sum(len(coarse.scan(segment.codes, third)[0]) for segment in index._segments) <= 40
        assert_exact(index, query, 3)


def test_limits_are_never_below_the_cosines(searched: FeatureStore) -> None:
    index = SearchIndex.open(searched)
    vectors = searched.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.arange(index.rows)
    assert (np.linalg.norm(vectors - index.fine(rows), axis=1) <= index.fine_error).all()
    for unit in unit_vectors(20, 5).astype(np.float64):
        unit /= np.linalg.norm(unit)
        for count in (1, 7, 40):
            candidates, limits = index._candidates(unit, count)
            cosines = vectors @ unit
            assert (limits >= cosines[candidates]).all()
            assert (limits <= cosines[candidates] + 4.1 * index.fine_error).all()
            assert set(np.argsort(-cosines)[:count].tolist()) <= set(candidates.tolist())


@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel says which pages a process holds on Linux alone"
)
def test_what_a_search_has_gone_through_is_not_held(searched: FeatureStore) -> None:
    index = SearchIndex.open(searched)
    (segment,) = index._segments
    path = re.escape(str(searched.folder / INDEX_FOLDER / segment.name))

    def held() -> int:
        smaps = Path("/proc/self/smaps").read_text("ascii", "replace")
        return sum(map(int, re.findall(rf"{path}\n(?:[A-Z].*\n)*?Rss: +(\d+)", smaps)))

    assert segment.fine.any()
    assert held() > 0
    candidates = index._candidates(np.eye(DIM)[0], 5)[0]
    assert held() == 0
    assert len(candidates) >= 5


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


def test_pictures_of_equal_streams_are_all_found(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(5), 3, axis=0)
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    assert len(index) == 15
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
    monkeypatch.setattr(indexing, "_SAMPLE", 64)
    monkeypatch.setattr(indexing, "SEGMENT_ROWS", 30)
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._BEST_FIRST", 2)
    vectors = np.repeat(unit_vectors(60), 2, axis=0)
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    assert [len(segment) for segment in index._segments] == [30] * 4
    for count in (1, 3, 40, 120):
        assert_exact(index, unit_vectors(1, 9)[0], count)


def test_a_picture_that_is_taken_out_or_changed_after_the_index_was_opened_keeps_nobody_out(
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path / "store", unit_vectors(30))
    index, query = SearchIndex.open(store), unit_vectors(1, 9)[0]
    expected = [name for name, _ in brute_force(store, query, 9)]
    other = FeatureStore.open(store.folder)
    other.remove([e for e in other.entries if e.name in expected[:4]])
    make_store(store.folder, -query[None], start=int(expected[5][1:]))
    left = [name for name in expected if name not in {*expected[:4], expected[5]}]
    assert [name for name, _ in found(index, query, 3)] == left[:3]
    assert len(index) == len(FeatureStore.open(store.folder)) == 26


def test_streams_of_different_steps_are_searched_exactly(tmp_path: Path) -> None:
    codec = FeatureCodec.fit_klt([unit_vectors(200, 99)], space())
    store = FeatureStore.create(tmp_path / "store", codec)
    for i, quality in enumerate((10, 50, 90)):
        pictures = [NewPicture(f"q{quality}/p{j}.jpg", 4, 3, 1, 1) for j in range(20)]
        store.add(tmp_path / "photos", pictures, Layers(unit_vectors(20, i)), rate=Rate(quality=quality))
    index = SearchIndex.open(store)
    for query in unit_vectors(5, 9):
        assert_exact(index, query, 60)
