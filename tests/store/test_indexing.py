"""An index follows its store, and no harm to either stops a search."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from search_samples import assert_exact, found, index_bytes, make_store, space, unit_vectors

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import SpaceMismatchError
from clip_feature_codec.names import INDEX_FOLDER
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.search.index_file import IndexFile
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
    assert (first.fitted, second.fitted) == (1, 1)
    assert second.quantizer.step.tobytes() == first.quantizer.step.tobytes()
    store = make_store(tmp_path / "store", unit_vectors(30, 3), start=5)
    third = SearchIndex.open(store)
    assert third.file.fitted == len(third.file.rows) > 30
    assert_exact(third, unit_vectors(1, 9)[0], 10)
    assert third.file.rows.coarse_error.max() < second.rows.coarse_error.max()


def test_a_changed_picture_is_found_as_it_is_now(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", unit_vectors(20))
    SearchIndex.open(store)
    new = unit_vectors(1, 50)
    store = make_store(tmp_path / "store", new, start=4)
    index = SearchIndex.open(store)
    assert found(index, new[0], 1)[0][0] == "p0004"
    assert len(index.file.rows) == 20
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
    shutil.copy(other.folder / INDEX_FOLDER, searched.folder / INDEX_FOLDER)
    with pytest.raises(SpaceMismatchError, match=INDEX_FOLDER) as caught:
        SearchIndex.open(searched)
    assert other.codec.space.label in str(caught.value)
    assert searched.codec.space.label in str(caught.value)


def test_an_index_of_other_tables_is_made_again(tmp_path: Path, searched: FeatureStore) -> None:
    other = FeatureStore.create(tmp_path / "other", FeatureCodec.fit(unit_vectors(9), space()))
    other.add(tmp_path, [NewPicture("x.jpg", 4, 3, 1, 1)], Layers(unit_vectors(1)))
    SearchIndex.open(other)
    shutil.copy(other.folder / INDEX_FOLDER, searched.folder / INDEX_FOLDER)
    index = SearchIndex.open(searched)
    assert len(index) == len(index.file.rows) == 40
    assert_exact(index, unit_vectors(1, 9)[0], 5)


def test_a_folder_in_the_index_s_place_is_no_hindrance(searched: FeatureStore) -> None:
    (searched.folder / INDEX_FOLDER).mkdir()
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

    monkeypatch.setattr(IndexFile, "save", full)
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
