from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.semantic import near_pairs
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.search import duplicates, pairs
from clip_feature_codec.store.search.duplicates import find_duplicates
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture


def make_index(folder: Path, vectors: np.ndarray) -> SearchIndex:
    """The index of a new store with a stream for each vector, ``p0000`` and so on."""
    dim = vectors.shape[1]
    tables = FeatureCodec.fit(
        np.random.default_rng(99).normal(size=(50, dim)).astype(np.float32),
        ClipSpace("test-model", "test-weights", "ab" * 32, dim, {}),
    )
    store = FeatureStore.create(folder, tables)
    pictures = [NewPicture(f"p{i:04}.jpg", 4, 3, 1, 1) for i in range(len(vectors))]
    store.add(folder / "photos", pictures, Layers(vectors.astype(np.float32)))
    return SearchIndex.open(store)


def cosines_of(index: SearchIndex) -> np.ndarray:
    """All cosines of decoded vectors, in float64; none of a vector with itself."""
    vectors = index.store.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.minimum(vectors @ vectors.T, 1.0)
    np.fill_diagonal(cosines, -2)
    return cosines


def brute_force(cosines: np.ndarray, threshold: float) -> set[frozenset[int]]:
    """The connected components of two and more."""
    groups = {i: {i} for i in range(len(cosines))}
    for i, j in np.argwhere(cosines >= threshold - 1e-12).tolist():
        if groups[i] is not groups[j]:
            groups[i] |= groups[j]
            for k in groups[j]:
                groups[k] = groups[i]
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def clustered(count: int, dim: int, spread: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, count // 4), dim))
    return centres[rng.integers(len(centres), size=count)] + spread * rng.normal(size=(count, dim))


@settings(deadline=None, max_examples=25)
@given(
    dim=st.sampled_from([2, 5, 16, 80]),
    count=st.integers(1, 60),
    spread=st.sampled_from([0.0, 1e-3, 0.05, 0.2]),
    quantile=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_groups_are_those_of_all_pairs(
    tmp_path_factory: pytest.TempPathFactory,
    dim: int,
    count: int,
    spread: float,
    quantile: float,
    seed: int,
) -> None:
    """At any threshold, one that is a pair's very cosine among them."""
    index = make_index(tmp_path_factory.mktemp("any") / "store", clustered(count, dim, spread, seed))
    cosines = cosines_of(index)
    threshold = max(0.0, float(np.quantile(cosines, quantile, method="nearest")))
    groups = find_duplicates(index, threshold)
    names = [entry.name for entry in index.store.entries]
    found = [[names.index(twin.entry.name) for twin in group] for group in groups]
    assert {frozenset(group) for group in found} == brute_force(cosines, threshold)
    assert found == sorted(sorted(group) for group in found)
    for group in groups:
        for twin in group:
            me, other = names.index(twin.entry.name), names.index(twin.nearest.name)
            assert other in next(places for places in found if me in places)
            assert twin.cosine == pytest.approx(cosines[me, other], abs=1e-12)
            assert twin.cosine >= cosines[me].max() - 1e-3


def test_tiles_and_batches_miss_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_pairs, "_ROOM", near_pairs.TILE + 500)
    monkeypatch.setattr(pairs, "_CHANNELS_TOGETHER", 12 * 300)
    monkeypatch.setattr(duplicates, "_PAIRS_TOGETHER", 100)
    index = make_index(tmp_path / "store", clustered(1200, 12, 0.1, 3))
    cosines = cosines_of(index)
    for threshold in (0.97, 0.999):
        told: list[tuple[str, int, int]] = []
        groups = find_duplicates(index, threshold, lambda *now, told=told: told.append(now))
        found = {frozenset(int(twin.entry.name[1:]) for twin in group) for group in groups}
        assert found == brute_force(cosines, threshold)
        differ = told[0][2]
        assert told[-3:] == [("comparing", done, differ) for done in (0, near_pairs.TILE, differ)]


def test_most_pairs_are_ruled_out_by_their_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    plain = pairs._confirmed
    monkeypatch.setattr(pairs, "_confirmed", lambda i, r, p, t: compared.append(len(p)) or plain(i, r, p, t))
    index = make_index(tmp_path / "store", clustered(400, 128, 0.05, 3))
    assert find_duplicates(index, 0.95)
    assert sum(compared) <= 1.1 * np.count_nonzero(cosines_of(index) >= 0.95) / 2


def test_equal_streams_are_a_group_whatever_their_number(tmp_path: Path) -> None:
    vectors = clustered(12, 16, 0.0, 1)[[0] * 6 + [1]]
    ((*twins,),) = find_duplicates(make_index(tmp_path / "store", vectors), 1.0)
    assert [(t.entry.name, t.nearest.name, t.cosine) for t in twins[:2]] == [
        ("p0000", "p0001", 1.0),
        ("p0001", "p0000", 1.0),
    ]
    assert len(twins) >= 6


def test_a_stream_that_has_vanished_is_in_no_group(tmp_path: Path) -> None:
    index = make_index(tmp_path / "store", clustered(8, 16, 0.0, 1)[[0, 0, 0, 1, 1]])
    for name in ("p0001", "p0004"):
        (index.store.folder / f"{name}.clp").unlink()
    groups = find_duplicates(SearchIndex.open(index.store), 0.95)
    names = [[twin.entry.name for twin in group] for group in groups]
    assert names[0][:1] == ["p0000"]
    assert not {"p0001", "p0004"} & {name for group in names for name in group}
    assert len(index.store) == 5


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_cosine(tmp_path: Path, threshold: float) -> None:
    index = make_index(tmp_path / "store", clustered(3, 8, 0.1, 1))
    with pytest.raises(ConfigError, match="threshold"):
        find_duplicates(index, threshold)


def test_an_empty_store_has_no_duplicates(tmp_path: Path) -> None:
    assert find_duplicates(make_index(tmp_path / "store", np.zeros((0, 8)))) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index(tmp_path / "store", clustered(100, 16, 0.1, 1))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b"))  # noqa: SIM115, PTH123
    with pytest.raises(OSError, match="No space left") as full:
        find_duplicates(index)
    assert full.value.filename == tempfile.gettempdir()
