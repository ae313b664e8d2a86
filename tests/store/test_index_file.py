"""The file of a search index: what it says holds, and whatever is wrong with it is found."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from search_samples import DIM, assert_exact, index_bytes, make_store, unit_vectors

from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.names import INDEX_FILE
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.nearest import SearchIndex

KEY = "clip-feature-codec search index, version 2"


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


def write_with_right_checksum(path: Path, arrays: dict[str, np.ndarray], facts: object) -> None:
    """An index file of any contents; the checksum goes over the arrays in the order of the package's list."""
    text = json.dumps(facts)
    checksum = zlib.crc32(text.encode())
    for name in ("coarse_error", "fine_error", "keys", "levels", "remainders", "minimum", "step"):
        if name in arrays:
            checksum = zlib.crc32(arrays[name].tobytes(), checksum)
    save_file(arrays, path, {KEY: f"{checksum:08x} {text}"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keys", np.zeros((7, 32), np.uint8)),
        ("keys", np.zeros((6, 31), np.uint8)),
        ("levels", np.zeros((6, DIM), np.int8)),
        ("levels", np.zeros((6, DIM + 1), np.uint8)),
        ("levels", None),
        ("coarse_error", np.full(6, np.nan, np.float32)),
        ("fine_error", np.full(6, -1, np.float32)),
        ("fine_error", np.zeros(6)),
        ("step", np.zeros(DIM, np.float32)),
        ("step", np.ones(0, np.float32)),
        ("minimum", np.full((1, DIM), 1, np.float32)),
        ("fitted", None),
        ("fitted", "6"),
        ("space", 5),
        (None, None),
    ],
)
def test_an_index_with_a_right_checksum_and_wrong_contents_is_made_again(
    searched: FeatureStore, name: str | None, value: np.ndarray | object
) -> None:
    SearchIndex.open(searched)
    path, whole = searched.folder / INDEX_FILE, index_bytes(searched)
    arrays = load_file(path)
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()[KEY].partition(" ")[2])
    write_with_right_checksum(path, arrays, facts)
    assert index_bytes(searched) == whole  # so that what is changed below is all that is wrong
    if name in arrays:
        del arrays[name]
        arrays |= {name: value} if isinstance(value, np.ndarray) else {}
    else:
        facts = facts | {name: value} if name else []
    write_with_right_checksum(path, arrays, facts)
    with pytest.raises(ValueError, match=r"."):
        IndexFile.load(path)
    assert_exact(SearchIndex.open(searched), unit_vectors(1, 9)[0], 6)
    assert index_bytes(searched) == whole


def test_an_index_of_the_first_version_is_made_again(searched: FeatureStore) -> None:
    SearchIndex.open(searched)
    path, whole = searched.folder / INDEX_FILE, index_bytes(searched)
    path.write_bytes(b"clip-feature-codec search index, version 1, CRC-32 12345678\n{}\n" + bytes(1000))
    assert_exact(SearchIndex.open(searched), unit_vectors(1, 9)[0], 6)
    assert index_bytes(searched) == whole


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
    assert (np.linalg.norm(vectors - coarse, axis=1) <= again.rows.coarse_error[rows]).all()
    near = np.linalg.norm(vectors - again.approximate(rows), axis=1)
    assert (near <= again.rows.fine_error[rows] + 1e-6).all()
    assert near.max() < again.rows.coarse_error.max() / 50
    for ours, theirs in zip(file.rows.arrays(), again.rows.arrays(), strict=True):
        assert np.array_equal(ours, theirs)
