"""Stores of before, whose manifest is JSON Lines: still read, and upgraded when something is written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from search_samples import make_store, unit_vectors

from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.old_manifest import read_old_manifest
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.verifying import layer_bytes
from clip_feature_codec.store.writing import NewPicture

RECORD = {
    "name": "a/x",
    "source": "../photos/a/x.jpg",
    "sha256": "01" * 32,
    "bytes": 321,
    "width": 640,
    "height": 480,
    "source_bytes": 98765,
    "source_mtime_ns": 1_700_000_000_123_456_789,
}
ENTRY = Entry(**{**RECORD, "sha256": "01" * 16})  # type: ignore[arg-type]


def line(**fields: object) -> bytes:
    return json.dumps({**RECORD, **fields}).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.jsonl"


def names(path: Path) -> list[str]:
    return [entry.name for entry in read_old_manifest(path)]


def test_a_missing_or_empty_manifest_has_no_entries(path: Path) -> None:
    assert read_old_manifest(path) == []
    path.touch()
    assert read_old_manifest(path) == []


def test_later_lines_replace_and_remove_and_torn_ones_are_nothing(path: Path) -> None:
    path.write_bytes(line() + line(name="b") + line(name="a/x", bytes=99, of_later_versions=1))
    assert [(entry.name, entry.bytes) for entry in read_old_manifest(path)] == [("a/x", 99), ("b", 321)]
    path.write_bytes(line() + line(name="b") + b'{"name": "a/x", "removed": true}\n' + line(name="c")[:50])
    assert names(path) == ["b"]
    path.write_bytes(path.read_bytes()[:-50] + line())
    assert names(path) == ["b", "a/x"]
    path.write_bytes(line())
    assert read_old_manifest(path) == [ENTRY]


@pytest.mark.parametrize(
    "wrong",
    [
        b"\n",
        b"{}\n",
        b"[1, 2]\n",
        b"not json\n",
        b"\xff\xfe\xfd\n",
        b"[" * 100_000 + b"\n",
        line(bytes="321"),
        line(width=True),
        line(height=4.5),
        line(sha256=None),
        b'{"removed": true}\n',
        b'{"name": 5, "removed": true}\n',
        b'{"name": "x", "removed": 1}\n',
        json.dumps({k: v for k, v in RECORD.items() if k != "source"}).encode() + b"\n",
        *(line(name=name) for name in ("../x", "/etc/x", "a/../../x", "..", "", "a\0b")),
        b'{"name": "../x", "removed": true}\n',
    ],
)
def test_a_whole_line_that_is_no_entry_is_named(path: Path, wrong: bytes) -> None:
    path.write_bytes(line() + wrong)
    with pytest.raises(StoreError, match=r"manifest\.jsonl, line 2") as caught:
        read_old_manifest(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["..x", "a..b/c..", "shot 12:30", "é/日本"])
def test_odd_names_that_stay_inside_are_read(path: Path, name: str) -> None:
    path.write_bytes(line(name=name))
    assert names(path) == [name]


def test_a_manifest_that_cannot_be_read_is_one_line(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        read_old_manifest(path)


@pytest.fixture
def old(tmp_path: Path) -> FeatureStore:
    """A store as a release of before has left it, and as ours has it in another folder."""
    new = make_store(tmp_path / "new", unit_vectors(12))
    shutil.copytree(new.folder, tmp_path / "old")
    (tmp_path / "old/manifest.sqlite").unlink()
    lines = []
    for entry in new.entries:
        record = {name: getattr(entry, name) for name in RECORD}
        digest = hashlib.sha256(new.blob(entry)).hexdigest()
        lines.append(json.dumps({**record, "sha256": digest}) + "\n")
    (tmp_path / "old/manifest.jsonl").write_text("".join(lines))
    return new


def test_a_store_of_before_is_read_and_not_touched(tmp_path: Path, old: FeatureStore) -> None:
    store = open_store(tmp_path / "old")
    assert [entry.name for entry in store.entries] == [entry.name for entry in old.entries]
    assert np.array_equal(store.vectors(), old.vectors())
    found, expected = layer_bytes(store), old.totals()
    assert (found.bytes, found.semantic_bytes) == (expected.bytes, expected.semantic_bytes)
    assert (tmp_path / "old/manifest.jsonl").exists()
    assert not (tmp_path / "old/manifest.sqlite").exists()


def test_the_first_that_writes_to_it_upgrades_it(tmp_path: Path, old: FeatureStore) -> None:
    store = open_store(tmp_path / "old")
    store.add(tmp_path / "old/photos", [NewPicture("z.jpg", 4, 3, 1, 1)], Layers(unit_vectors(1, 5)))
    again = open_store(tmp_path / "old")
    assert [entry.name for entry in again.entries] == [*(entry.name for entry in old.entries), "z"]
    assert not (tmp_path / "old/manifest.jsonl").exists()
