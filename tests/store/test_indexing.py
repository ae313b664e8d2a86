"""An index follows its store, and no harm to either stops a search."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packed_samples import add
from search_samples import assert_exact, found, index_bytes, make_store, space, unit_vectors

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import SpaceMismatchError
from clip_feature_codec.names import INDEX_FOLDER
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.packed import PackedStore
from clip_feature_codec.store.search import indexing
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.indexing import Streams
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture


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
    assert (first.fitted, second.fitted) == (2, 2)
    assert second.frame.steps.tobytes() == first.frame.steps.tobytes()
    store = make_store(tmp_path / "store", unit_vectors(30, 3), start=5)
    third = SearchIndex.open(store)
    assert third.file.fitted == len(third) == 35
    assert_exact(third, unit_vectors(1, 9)[0], 10)


def test_a_changed_picture_is_found_as_it_is_now(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(20))
    SearchIndex.open(store)
    new = unit_vectors(1, 50)
    store = make_store(tmp_path / "store", new, start=4)
    index = SearchIndex.open(store)
    assert found(index, new[0], 1)[0][0] == "p0004"
    assert len(index) == 20
    assert_exact(index, unit_vectors(1, 9)[0], 20)


def test_damaged_streams_are_left_out_and_tried_again(searched: FeatureStore) -> None:
    query = searched.vectors()[5]
    stream = searched.folder / "p0005.clp"
    whole = stream.read_bytes()
    stream.write_bytes(whole[:-1])
    for _ in range(2):
        index = SearchIndex.open(searched)
        assert "p0005" not in dict(found(index, query, 40))
        assert len(index) == 39
        ((path, reason),) = index.failures
        assert (path, "p0005.clp" in reason) == (str(stream), True)
    stream.write_bytes(whole)
    index = SearchIndex.open(searched)
    assert (found(index, query, 1)[0][0], index.failures) == ("p0005", [])


def test_a_stream_that_cannot_be_decoded_though_it_is_what_was_written_is_left_out(
    searched: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FeatureStore.read

    def read(self: FeatureStore, entry: Entry) -> Stream:
        stream = plain(self, entry)
        return replace(stream, semantic=b"") if entry.name == "p0007" else stream

    monkeypatch.setattr(FeatureStore, "read", read)
    index = SearchIndex.open(searched)
    assert len(index) == 39
    assert [path for path, _ in index.failures] == [str(searched.folder / "p0007.clp")]
    assert str(searched.folder / "p0007.clp") in index.failures[0][1]


def test_an_entry_whose_checksum_is_no_checksum_is_a_failure(searched: FeatureStore) -> None:
    with sqlite3.connect(searched.folder / "manifest.sqlite") as manifest:
        for name, value in (("p0003", b"zz"), ("p0004", bytes(16)), ("p0005", b"")):
            manifest.execute("UPDATE pictures SET sha256 = ? WHERE name = ?", [value, name])
    index = SearchIndex.open(FeatureStore.open(searched.folder))
    assert [Path(path).stem for path, _ in index.failures] == ["p0003", "p0004", "p0005"]
    assert len(index) == 37


def test_an_index_of_another_clip_space_is_refused_with_both_names(
    tmp_path: Path, searched: FeatureStore
) -> None:
    other = FeatureStore.create(tmp_path / "other", FeatureCodec.fit(unit_vectors(50), space(weights="cd")))
    other.add(tmp_path, [NewPicture("x.jpg", 4, 3, 1, 1)], Layers(unit_vectors(1)))
    SearchIndex.open(other)
    shutil.copytree(other.folder / INDEX_FOLDER, searched.folder / INDEX_FOLDER)
    with pytest.raises(SpaceMismatchError, match=INDEX_FOLDER) as caught:
        SearchIndex.open(searched)
    assert other.codec.space.label in str(caught.value)
    assert searched.codec.space.label in str(caught.value)


def test_an_index_of_other_tables_is_made_again(tmp_path: Path, searched: FeatureStore) -> None:
    other = FeatureStore.create(tmp_path / "other", FeatureCodec.fit(unit_vectors(9), space()))
    other.add(tmp_path, [NewPicture("x.jpg", 4, 3, 1, 1)], Layers(unit_vectors(1)))
    SearchIndex.open(other)
    shutil.copytree(other.folder / INDEX_FOLDER, searched.folder / INDEX_FOLDER)
    index = SearchIndex.open(searched)
    assert len(index) == index.rows == 40
    assert_exact(index, unit_vectors(1, 9)[0], 5)


@pytest.mark.parametrize("kind", ["empty", "file"])
def test_what_is_in_the_index_s_place_is_no_hindrance(searched: FeatureStore, kind: str) -> None:
    """An index of before was a file."""
    place = searched.folder / INDEX_FOLDER
    place.mkdir() if kind == "empty" else place.write_bytes(b"clip-feature-codec search index, version 2")
    assert_exact(SearchIndex.open(searched), unit_vectors(1, 9)[0], 5)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_cannot_be_written_to_is_searched(searched: FeatureStore) -> None:
    searched.folder.chmod(0o555)
    try:
        assert_exact(SearchIndex.open(searched), unit_vectors(1, 9)[0], 5)
    finally:
        searched.folder.chmod(0o755)
    assert not (searched.folder / INDEX_FOLDER).exists()


def test_a_store_on_a_full_disk_is_searched(searched: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexFile, "saved", full)
    assert_exact(SearchIndex.open(searched), unit_vectors(1, 9)[0], 5)


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
    assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 13)
    files = {path.name for path in (store.folder / INDEX_FOLDER).iterdir()}
    assert len(files) == 5  # the list, the frame, two segments, the lock: none is left over


def test_an_index_is_the_same_whether_it_grew_or_was_made_at_once(tmp_path: Path) -> None:
    vectors = unit_vectors(12)
    grown = make_store(tmp_path / "grown", vectors[:6])
    SearchIndex.open(grown)
    grown = make_store(tmp_path / "grown", vectors[6:], start=6)
    at_once = make_store(tmp_path / "at_once", vectors)
    query = unit_vectors(1, 9)[0]
    assert found(SearchIndex.open(grown), query, 12) == found(SearchIndex.open(at_once), query, 12)


def segments_of(index: SearchIndex) -> list[str]:
    return [segment.name for segment in index._segments]


def test_little_that_is_added_makes_a_small_segment_and_the_large_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SEGMENT_ROWS", 16)
    store = make_store(tmp_path / "store", unit_vectors(40))
    before = segments_of(SearchIndex.open(store))
    assert len(before) == 3
    for i in range(40, 60):
        store = make_store(tmp_path / "store", unit_vectors(1, i), start=i)
        index = SearchIndex.open(store)
        assert segments_of(index)[:2] == before[:2]
        assert len(segments_of(index)) <= 9
    assert_exact(index, unit_vectors(1, 9)[0], 60)


def test_what_is_taken_out_is_marked_and_in_the_end_written_out(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(40))
    whole = segments_of(SearchIndex.open(store))
    for taken, same in ((5, True), (10, False)):
        store.remove(list(store.entries)[:taken])
        index = SearchIndex.open(FeatureStore.open(store.folder))
        assert (len(index), segments_of(index) == whole) == (len(store), same)
        assert_exact(index, unit_vectors(1, 9)[0], 25)
    assert index.rows == 25


def test_rows_that_are_sealed_into_another_shard_are_not_decoded_again(
    packed: PackedStore, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(packed, range(3))
    index = SearchIndex.open(packed)  # they wait in the journal
    assert len(index) == 3
    packed.finish()
    decoded: list[int] = []
    plain = Streams.decode
    monkeypatch.setattr(Streams, "decode", lambda self, e: decoded.append(len(e)) or plain(self, e))
    store = PackedStore.open(packed.folder)
    index = SearchIndex.open(store)
    assert (len(index), sum(decoded)) == (3, 0)
    add(store, range(3, 5), seed=1)
    store.finish()
    index = SearchIndex.open(store)
    assert (len(index), sum(decoded)) == (5, 2)
    store.remove([store.entries[1]])
    index = SearchIndex.open(store)
    assert (len(index), sum(decoded)) == (4, 2)
    assert_exact(index, unit_vectors(1, 9)[0], 4)


def test_a_store_is_searched_while_another_process_adds_to_it(
    packed: PackedStore, small_shards: None
) -> None:
    """What is found is in the store, and what was there when the index was opened is found."""
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; import packed_samples\n"
        "from clip_feature_codec.store.packed import PackedStore, packed_store, shards\n"
        "packed_store.SHARD_ROWS, shards.GROUP_ROWS = 12, 4\n"
        "store = PackedStore.open(Path(sys.argv[1]))\n"
        "for i in range(30):\n"
        "    packed_samples.add(store, range(3 * i, 3 * i + 3), seed=i)\n"
        "    if i % 7 == 6: store.finish()\n"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    with subprocess.Popen([sys.executable, "-c", script, str(packed.folder), *paths]) as writer:
        sizes = []
        while writer.poll() is None or not sizes or sizes[-1] < 90:
            store = PackedStore.open(packed.folder)
            index = SearchIndex.open(store)
            sizes.append(len(index))
            hits = index.nearest(unit_vectors(1, 9)[0], 1000)
            assert len(hits) >= sizes[-1]
    assert writer.returncode == 0
    assert sizes == sorted(sizes)
    assert_exact(index, unit_vectors(1, 9)[0], 90)
