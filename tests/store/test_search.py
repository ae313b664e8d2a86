from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import ConfigError, SpaceMismatchError
from clip_feature_codec.names import INDEX_FILE
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.pending import NewPicture
from clip_feature_codec.store.search import indexing
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.nearest import SearchIndex

DIM = 16


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def space(dim: int = DIM, weights: str = "ab") -> ClipSpace:
    return ClipSpace("test-model", weights, weights * 32, dim, {"size": [32, 32]})


def make_store(folder: Path, vectors: np.ndarray, start: int = 0) -> FeatureStore:
    """A store with a stream for each vector, or one that is there with these added from ``start`` on."""
    dim = vectors.shape[1]
    if (folder / "codec.json").exists():
        store = FeatureStore.open(folder)
    else:
        store = FeatureStore.create(folder, FeatureCodec.fit(unit_vectors(50, 99, dim), space(dim)))
    pictures = [NewPicture(f"p{start + i:04}.jpg", 4, 3, 1, 1) for i in range(len(vectors))]
    store.add(folder / "photos", pictures, Layers(vectors))
    return FeatureStore.open(folder)


def brute_force(store: FeatureStore, query: np.ndarray, count: int) -> list[tuple[str, float]]:
    """(name, cosine) of the nearest, in float64, from all decoded streams; of equal ones, the first added."""
    vectors = store.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = query.astype(np.float64)
    cosines = np.round((vectors * (exact / np.linalg.norm(exact))).sum(axis=1), 14)
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(store.entries[i].name, cosines[i]) for i in order]


def found(index: SearchIndex, query: np.ndarray, count: int) -> list[tuple[str, float]]:
    return [(hit.entry.name, hit.cosine) for hit in index.nearest(query, count)]


def assert_exact(index: SearchIndex, query: np.ndarray, count: int) -> None:
    """The very pictures of a search through all decoded vectors, in its order, with its cosines."""
    expected = brute_force(index.store, query, count)
    names, cosines = zip(*found(index, query, count), strict=True)
    assert list(names) == [name for name, _ in expected]
    assert cosines == pytest.approx([cosine for _, cosine in expected], abs=1e-13)


def index_bytes(store: FeatureStore) -> bytes:
    return (store.folder / INDEX_FILE).read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "store", unit_vectors(40))


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
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._ODD", 9)
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


def test_limits_are_never_below_the_cosines(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_feature_codec.store.search.nearest._ODD", 3)
    index = SearchIndex.open(store)
    vectors = store.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [index.members(row) for row in range(len(index.file.rows))]
    place = {entry.name: i for i, entry in enumerate(store.entries)}
    for query in unit_vectors(20, 5).astype(np.float64):
        unit = query / np.linalg.norm(query)
        cosines = np.array([vectors[place[entries[0].name]] @ unit for entries in rows])
        limits = index._limits(unit, np.arange(len(rows)))
        assert (limits >= cosines).all()
        assert (limits < cosines + 2e-3).all()
        for count in (1, 7, 39):
            candidates, ceiling = index._candidates(unit, count)
            others = np.setdiff1d(np.arange(len(rows)), candidates)
            assert (cosines[others] <= ceiling).all()


def test_a_query_may_have_any_length_and_count_any_size(store: FeatureStore) -> None:
    index, query = SearchIndex.open(store), unit_vectors(1, 7)[0]
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
def test_queries_that_make_no_sense_are_refused(store: FeatureStore, query: np.ndarray, count: int) -> None:
    with pytest.raises(ConfigError, match=r"query|count"):
        SearchIndex.open(store).nearest(query.astype(np.float32), count)


def test_a_store_without_streams_has_no_results(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(0))
    for _ in range(2):
        index = SearchIndex.open(store)
        assert (len(index), index.nearest(np.ones(DIM, np.float32), 3), index.failures) == (0, [], [])
    store = make_store(tmp_path / "store", unit_vectors(3))
    assert len(SearchIndex.open(store).nearest(np.ones(DIM, np.float32), 5)) == 3


def test_the_index_grows_with_the_store_and_reads_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = FeatureStore.read
    monkeypatch.setattr(
        FeatureStore, "read", lambda self, entry: read.append(entry.name) or plain(self, entry)
    )
    store = make_store(tmp_path / "store", unit_vectors(30))
    SearchIndex.open(store)
    store = make_store(tmp_path / "store", unit_vectors(20, 1), start=30)
    read.clear()
    index = SearchIndex.open(store)
    assert read == [f"p{i:04}" for i in range(30, 50)]
    assert_exact(index, unit_vectors(1, 9)[0], 50)
    read.clear()
    before = index_bytes(store)
    SearchIndex.open(store)
    assert (read, index_bytes(store)) == ([], before)


def test_levels_are_fitted_again_when_the_store_has_outgrown_them(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", np.tile(unit_vectors(1), (2, 1)))
    first = SearchIndex.open(store).file
    store = make_store(tmp_path / "store", unit_vectors(3, 3), start=2)
    second = SearchIndex.open(store).file
    assert (first.fitted, second.fitted) == (1, 1)
    assert second.quantizer.step.tobytes() == first.quantizer.step.tobytes()
    store = make_store(tmp_path / "store", unit_vectors(30, 3), start=5)
    third = SearchIndex.open(store)
    assert third.file.fitted == len(third.file.rows) > 30
    assert_exact(third, unit_vectors(1, 9)[0], 10)
    assert third.file.rows.radius.max() < second.rows.radius.max()


def test_a_changed_picture_is_found_as_it_is_now(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(20))
    SearchIndex.open(store)
    new = unit_vectors(1, 50)
    store = make_store(tmp_path / "store", new, start=4)
    index = SearchIndex.open(store)
    assert found(index, new[0], 1)[0][0] == "p0004"
    assert len(index.file.rows) == 20
    assert_exact(index, unit_vectors(1, 9)[0], 20)


def test_of_equal_streams_one_row_is_kept_and_all_pictures_are_found(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(5), 3, axis=0)
    index = SearchIndex.open(make_store(tmp_path / "store", vectors))
    assert (len(index.file.rows), len(index)) == (5, 15)
    assert [name for name, _ in found(index, vectors[3], 4)[:3]] == ["p0003", "p0004", "p0005"]


def test_damaged_streams_are_left_out_and_tried_again(store: FeatureStore) -> None:
    query = store.vectors()[5]
    stream = store.folder / "p0005.clp"
    whole = stream.read_bytes()
    stream.write_bytes(whole[:-1])
    for _ in range(2):
        index = SearchIndex.open(store)
        assert "p0005" not in dict(found(index, query, 40))
        assert len(index) == 39
        ((path, reason),) = index.failures
        assert (path, "p0005.clp" in reason) == (str(stream), True)
    stream.write_bytes(whole)
    index = SearchIndex.open(store)
    assert (found(index, query, 1)[0][0], index.failures) == ("p0005", [])


def test_a_stream_that_cannot_be_decoded_though_it_is_what_was_written_is_left_out(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FeatureStore.read

    def read(store: FeatureStore, entry: Entry) -> Stream:
        stream = plain(store, entry)
        return replace(stream, semantic=b"") if entry.name == "p0007" else stream

    monkeypatch.setattr(FeatureStore, "read", read)
    index = SearchIndex.open(store)
    assert len(index) == 39
    assert [path for path, _ in index.failures] == [str(store.folder / "p0007.clp")]
    assert str(store.folder / "p0007.clp") in index.failures[0][1]


def test_streams_that_vanish_after_they_were_indexed_are_noticed_when_they_are_found(
    store: FeatureStore,
) -> None:
    SearchIndex.open(store)
    query = store.vectors()[5]
    expected = [name for name, _ in brute_force(store, query, 4)]
    (store.folder / f"{expected[0]}.clp").unlink()
    (store.folder / f"{expected[2]}.clp").write_bytes(b"")
    index = SearchIndex.open(store)
    assert index.failures == []
    assert [name for name, _ in found(index, query, 2)] == [expected[1], expected[3]]
    assert {Path(path).stem for path, _ in index.failures} == {expected[0], expected[2]}


def test_an_entry_whose_checksum_is_no_checksum_is_a_failure(store: FeatureStore) -> None:
    manifest = store.folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    for i, text in ((3, "zz"), (4, "AB"), (5, "")):
        lines[i] = lines[i].replace(store.entries[i].sha256, text)
    manifest.write_text("\n".join(lines) + "\n")
    index = SearchIndex.open(FeatureStore.open(store.folder))
    assert [Path(path).stem for path, _ in index.failures] == ["p0003", "p0004", "p0005"]
    assert len(index) == 37


def test_an_index_of_another_clip_space_is_refused_with_both_names(
    tmp_path: Path, store: FeatureStore
) -> None:
    other = FeatureStore.create(tmp_path / "other", FeatureCodec.fit(unit_vectors(50), space(weights="cd")))
    other.add(tmp_path, [NewPicture("x.jpg", 4, 3, 1, 1)], Layers(unit_vectors(1)))
    SearchIndex.open(other)
    shutil.copy(other.folder / INDEX_FILE, store.folder / INDEX_FILE)
    with pytest.raises(SpaceMismatchError, match=INDEX_FILE) as caught:
        SearchIndex.open(store)
    assert other.codec.space.label in str(caught.value)
    assert store.codec.space.label in str(caught.value)


def test_an_index_of_other_tables_is_made_again(tmp_path: Path, store: FeatureStore) -> None:
    other = FeatureStore.create(tmp_path / "other", FeatureCodec.fit(unit_vectors(9), space()))
    other.add(tmp_path, [NewPicture("x.jpg", 4, 3, 1, 1)], Layers(unit_vectors(1)))
    SearchIndex.open(other)
    shutil.copy(other.folder / INDEX_FILE, store.folder / INDEX_FILE)
    index = SearchIndex.open(store)
    assert len(index) == len(index.file.rows) == 40
    assert_exact(index, unit_vectors(1, 9)[0], 5)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_damaged_index_is_made_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged_index"
    if not folder.exists():
        SearchIndex.open(make_store(folder, unit_vectors(6)))
        shutil.copy(folder / INDEX_FILE, folder / "whole")
    store, whole = FeatureStore.open(folder), (folder / "whole").read_bytes()
    kind = data.draw(st.sampled_from(["cut", "flip", "extend", "any"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = {
        "cut": whole[:place],
        "flip": whole[:place]
        + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))])
        + whole[place + 1 :],
        "extend": whole + b"\0",
        "any": data.draw(st.binary(max_size=200)),
    }[kind]
    (folder / INDEX_FILE).write_bytes(damaged)
    index = SearchIndex.open(store)
    assert_exact(index, unit_vectors(1, 9)[0], 6)
    assert index_bytes(store) == whole


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 7},
        {"rows": -1},
        {"rows": "6"},
        {"rows": 10**30},
        {"fitted": None},
        {"space": 5},
        {"step": [0.0] * DIM},
        {"step": []},
        {"minimum": [[1.0]]},
        {"minimum": "x"},
        {"minimum": [10**400] * DIM},
        {"step": {}},
    ],
)
def test_an_index_with_a_right_checksum_and_a_wrong_header_is_made_again(
    tmp_path: Path, change: dict[str, object]
) -> None:
    import json
    import zlib

    store = make_store(tmp_path / "store", unit_vectors(6))
    SearchIndex.open(store)
    whole = index_bytes(store)
    first, line, arrays = whole.split(b"\n", 2)
    line = json.dumps(json.loads(line) | change).encode() + b"\n"
    first = first[:-8] + b"%08x\n" % zlib.crc32(line + arrays)
    (store.folder / INDEX_FILE).write_bytes(first + line + arrays)
    with pytest.raises(ValueError, match=r"."):
        IndexFile.load(store.folder / INDEX_FILE)
    assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 6)
    assert index_bytes(store) == whole


def test_a_folder_in_the_index_s_place_is_no_hindrance(store: FeatureStore) -> None:
    (store.folder / INDEX_FILE).mkdir()
    assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 5)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_cannot_be_written_to_is_searched(store: FeatureStore) -> None:
    store.folder.chmod(0o555)
    try:
        assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 5)
    finally:
        store.folder.chmod(0o755)
    assert not (store.folder / INDEX_FILE).exists()


def test_a_store_on_a_full_disk_is_searched(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexFile, "save", full)
    assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 5)


def test_killed_while_the_index_is_written_the_old_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", unit_vectors(10))
    SearchIndex.open(store)
    before = index_bytes(store)
    store = make_store(tmp_path / "store", unit_vectors(3, 1), start=10)
    with monkeypatch.context() as context:
        context.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            SearchIndex.open(store)
    assert index_bytes(store) == before
    assert not list(store.folder.glob(".search*"))
    assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 13)


def test_an_index_is_the_same_whether_it_grew_or_was_made_at_once(tmp_path: Path) -> None:
    vectors = unit_vectors(12)
    grown = make_store(tmp_path / "grown", vectors[:6])
    SearchIndex.open(grown)
    grown = make_store(tmp_path / "grown", vectors[6:], start=6)
    at_once = make_store(tmp_path / "at_once", vectors)
    query = unit_vectors(1, 9)[0]
    assert found(SearchIndex.open(grown), query, 12) == found(SearchIndex.open(at_once), query, 12)


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


def test_what_an_index_file_says_of_its_errors_holds(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(30))
    file = SearchIndex.open(store).file
    again = IndexFile.load(store.folder / INDEX_FILE)
    assert isinstance(again.quantizer, AffineQuantizer)
    vectors = store.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = [bytes(key).hex() for key in again.rows.keys]
    rows = np.array([keys.index(entry.sha256) for entry in store.entries])
    coarse = again.quantizer.minimum + again.quantizer.step.astype(np.float64) * again.rows.levels[rows]
    assert (np.linalg.norm(vectors - coarse, axis=1) <= again.rows.radius[rows]).all()
    near = np.linalg.norm(vectors - again.approximate(rows), axis=1)
    assert (near <= again.rows.rest[rows] + 1e-6).all()
    assert near.max() < again.rows.radius.max() / 50
    for ours, theirs in zip(file.rows.arrays(), again.rows.arrays(), strict=True):
        assert np.array_equal(ours, theirs)
