"""The files of a search index: whatever is wrong with them, as far as it shows, the index is made again."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from search_samples import DIM, assert_exact, index_bytes, make_store, unit_vectors

from clip_feature_codec.errors import SpaceMismatchError
from clip_feature_codec.names import INDEX_FOLDER
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.nearest import SearchIndex


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_cut_or_foreign_file_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Vectors are not read when an index is opened, so that a bit that flips among them is not seen then."""
    folder = tmp_path_factory.getbasetemp() / "damaged_index"
    if not folder.exists():
        SearchIndex.open(make_store(folder, unit_vectors(6)))
        shutil.copytree(folder / INDEX_FOLDER, folder / "whole")
    shutil.rmtree(folder / INDEX_FOLDER)
    shutil.copytree(folder / "whole", folder / INDEX_FOLDER)
    names = sorted(path.name for path in (folder / "whole").iterdir() if path.name != ".lock")
    path = folder / INDEX_FOLDER / data.draw(st.sampled_from(names))
    whole = path.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "flip", "extend", "any", "gone"]))
    in_header = len(whole) if path.suffix == ".json" else 8 + int.from_bytes(whole[:8], "little")
    place = data.draw(st.integers(0, in_header - 1))
    damaged = {
        "cut": whole[: data.draw(st.integers(0, len(whole) - 1))],
        "flip": whole[:place]
        + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))])
        + whole[place + 1 :],
        "extend": whole + b"\0",
        "any": data.draw(st.binary(max_size=200)),
        "gone": b"",
    }[kind]
    path.unlink() if kind == "gone" else path.write_bytes(damaged)
    store = FeatureStore.open(folder)
    with suppress(SpaceMismatchError):  # which a flipped letter may make of it
        assert len(SearchIndex.open(store)) == 6
        assert_exact(SearchIndex.open(store), unit_vectors(1, 9)[0], 6)


def changed_list(searched: FeatureStore, change: Any) -> None:
    path = searched.folder / INDEX_FOLDER / "index.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def first_segment(record: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = record["parts"]["manifest.sqlite"]["segments"][0]
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(format="clip-feature-codec search index, version 3"),
        lambda record: record.update(fitted="6"),
        lambda record: record.update(space=5),
        lambda record: record.update(frame="../codec.json"),
        lambda record: record.update(parts=[]),
        lambda record: record.pop("parts"),
        lambda record: first_segment(record).update(rows=39),
        lambda record: first_segment(record).update(name="../../elsewhere.safetensors"),
        lambda record: first_segment(record).update(gone=[40]),
        lambda record: first_segment(record).update(gone=[-1]),
        lambda record: first_segment(record).update(gone=[3, 3]),
        lambda record: first_segment(record).update(gone="x"),
        lambda record: record["parts"]["manifest.sqlite"].update(failed=["x"]),
    ],
)
def test_a_list_that_makes_no_sense_is_made_again(
    searched: FeatureStore, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    SearchIndex.open(searched)
    caplog.set_level("INFO")
    changed_list(searched, change)
    with pytest.raises(ValueError, match=r"."):
        IndexFile.load(searched.folder / INDEX_FOLDER)
    index = SearchIndex.open(searched)
    assert caplog.text.count("made again") == 1
    assert len(index) == 40
    assert_exact(index, unit_vectors(1, 9)[0], 6)
    assert IndexFile.load(searched.folder / INDEX_FOLDER).pictures == 40


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keys", np.zeros((40, 32), np.uint8)),
        ("keys", np.zeros((39, 16), np.uint8)),
        ("codes0", np.zeros((40, 9), np.int16)),
        ("codes3", np.zeros((40, 8), np.uint16)),
        ("fine", np.zeros((40, DIM + 1), np.int16)),
        ("fine", None),
        ("numbers", np.zeros(40, np.int16)),
        ("more", np.zeros(1, np.uint8)),
        ("more", np.zeros(1, np.float64)),
        ("steps", np.zeros(DIM, np.float32)),
        ("steps", np.ones(DIM - 1, np.float32)),
        ("axes", np.full((DIM, DIM), np.nan, np.float32)),
    ],
)
def test_other_arrays_are_made_again(searched: FeatureStore, name: str, value: np.ndarray | None) -> None:
    SearchIndex.open(searched)
    folder = searched.folder / INDEX_FOLDER
    of_frame = name in ("steps", "axes")
    (path,) = (p for p in folder.glob("*.safetensors") if p.name.startswith("frame") == of_frame)
    arrays = load_file(path)
    arrays.pop(name, None)
    save_file(arrays | ({} if value is None else {name: value}), path)
    with pytest.raises(ValueError, match=r"."):
        IndexFile.load(folder)
    assert_exact(SearchIndex.open(searched), unit_vectors(1, 9)[0], 6)
    assert IndexFile.load(folder).pictures == 40


def test_numbers_and_keys_of_other_pictures_find_nobody(searched: FeatureStore) -> None:
    """What an index says of its pictures is not believed: the store is asked."""
    SearchIndex.open(searched)
    folder = searched.folder / INDEX_FOLDER
    (path,) = (p for p in folder.glob("*.safetensors") if not p.name.startswith("frame"))
    arrays = load_file(path)
    arrays["numbers"] = arrays["numbers"] + np.int64(2) ** 62
    save_file(arrays, path)
    index = SearchIndex.open(searched)
    assert index.nearest(unit_vectors(1, 9)[0], 6) == []


def test_nothing_is_written_where_nothing_has_changed(searched: FeatureStore, tmp_path: Path) -> None:
    SearchIndex.open(searched)
    before = index_bytes(searched)
    times = {p.name: p.stat().st_mtime_ns for p in (searched.folder / INDEX_FOLDER).iterdir()}
    SearchIndex.open(FeatureStore.open(searched.folder))
    assert index_bytes(searched) == before
    assert {p.name: p.stat().st_mtime_ns for p in (searched.folder / INDEX_FOLDER).iterdir()} == times
