from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.manifest import Entry, Manifest, Totals

ENTRY = Entry(
    "a/x", "../photos/a/x.jpg", "01" * 16, 321, 640, 480, 98765, 1_700_000_000_123_456_789, 200, 100
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.sqlite"


def opened(path: Path) -> Manifest:
    return Manifest(path.parent, path)


def written(path: Path, *entries: Entry) -> Manifest:
    manifest = opened(path)
    manifest.keep()
    with manifest.transaction():
        for entry in entries:
            manifest.put(entry)
    return manifest


def test_nothing_is_written_before_there_is_something_to_keep(path: Path) -> None:
    manifest = opened(path)
    assert (list(manifest.entries()), len(manifest), manifest.totals()) == ([], 0, Totals())
    assert not path.exists()


@settings(deadline=None, max_examples=50)
@given(
    name=st.text(st.characters(exclude_characters="./\\:\0", exclude_categories=()), min_size=1),
    numbers=st.lists(st.integers(0, 2**63 - 1), min_size=5, max_size=5),
)
def test_what_is_put_in_is_read_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, name: str, numbers: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_names.sqlite"
    path.unlink(missing_ok=True)
    entry = Entry(name, f"../{name}.png", "0f" * 16, *numbers)
    written(path, entry, ENTRY)
    again = opened(path)
    assert list(again.entries()) == [entry, ENTRY]
    assert again.named(name.upper()) == (entry if name.upper().casefold() == name.casefold() else None)
    assert again.of_source(entry.source) == entry


def test_one_of_the_same_name_takes_its_place(path: Path) -> None:
    other, changed = replace(ENTRY, name="b"), replace(ENTRY, bytes=99)
    manifest = written(path, ENTRY, other, changed)
    assert manifest.entries() == [changed, other]
    assert manifest.totals() == Totals(2, 420, 400, 200)
    moved = replace(other, name="c", source="../d.jpg")
    manifest.replace(other, moved)
    assert opened(path).entries() == [changed, moved]
    assert (manifest.named("b"), manifest.named("C"), manifest.of_source("../d.jpg")) == (None, moved, moved)


def test_a_removed_name_is_no_entry_until_it_comes_back_at_the_end(path: Path) -> None:
    """Fault 26: nothing could be taken out."""
    other = replace(ENTRY, name="b", source="../b.jpg")
    manifest = written(path, ENTRY, other)
    before = manifest.entries()
    manifest.remove([ENTRY, replace(ENTRY, name="never there")])
    assert manifest.entries() == [other]
    assert (manifest.removed(), manifest.named("a/x"), manifest.of_source(ENTRY.source)) == (
        [ENTRY],
        None,
        None,
    )
    assert before == [ENTRY, other]  # whoever listed them goes on with that
    manifest.put(ENTRY)
    assert manifest.entries() == [other, ENTRY]
    manifest.forget()
    assert (manifest.removed(), opened(path).entries()) == ([], [other, ENTRY])
    with pytest.raises(StoreError, match="start again"):
        before[0]


def test_entries_are_those_of_one_moment(path: Path) -> None:
    entries = [replace(ENTRY, name=f"{i}", source=f"{i}.jpg") for i in range(3000)]
    manifest = written(path, *entries)
    manifest.remove(entries[5:1500:3])
    left = [entry for i, entry in enumerate(entries) if not (5 <= i < 1500 and i % 3 == 2)]
    found = manifest.entries()
    manifest.put(replace(ENTRY, name="later"))
    assert list(found) == left
    assert (found[7], found[-1], list(found[10:2000:90])) == (left[7], left[-1], left[10:2000:90])
    assert len(manifest.entries()) == len(found) + 1


def test_all_of_a_transaction_or_none_of_it(path: Path) -> None:
    manifest = written(path, ENTRY)

    def fail() -> None:
        with manifest.transaction():
            manifest.put(replace(ENTRY, name="b"))
            with manifest.transaction():
                manifest.remove([ENTRY])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert opened(path).entries() == manifest.entries() == [ENTRY]


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from clip_feature_codec.store.manifest import Entry, Manifest
path = Path(sys.argv[1])
manifest = Manifest(path.parent, path)
with manifest.transaction():
    manifest.remove(list(manifest.entries()))
    for i in range(5000):
        manifest.put(Entry(f"{i}" * 50, f"{i}.jpg", "00" * 16, 1, 1, 1, 1, 1))
    manifest._connection.execute("PRAGMA cache_spill = 1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_manifest_as_it_was(path: Path) -> None:
    written(path, ENTRY)
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -9
    assert opened(path).entries() == [ENTRY]


@pytest.mark.parametrize("contents", [b"no database" * 100, b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_manifest_is_one_line(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)
    with pytest.raises(StoreError, match=r"manifest\.sqlite: cannot be used") as caught:
        opened(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b", b"x"])
def test_names_that_lead_out_of_the_store_are_refused(path: Path, name: object) -> None:
    refused_with(path, "name", name)


@pytest.mark.parametrize(
    ("column", "value"), [("bytes", "many"), ("width", 4.5), ("sha256", "text"), ("source_mtime_ns", b"1")]
)
def test_rows_that_are_no_pictures_are_refused(path: Path, column: str, value: object) -> None:
    refused_with(path, column, value)


def refused_with(path: Path, column: str, value: object) -> None:
    written(path, ENTRY)
    with sqlite3.connect(path) as others:
        others.execute(f"UPDATE pictures SET {column} = ?", [value])
    with pytest.raises(StoreError, match="row 1: not a picture"):
        list(opened(path).entries())


def test_others_read_it_with_sql(path: Path) -> None:
    written(path, ENTRY, replace(ENTRY, name="b", bytes=400))
    with sqlite3.connect(path) as others:
        rows = others.execute("SELECT name, bytes FROM pictures WHERE NOT removed AND bytes > 350").fetchall()
    assert rows == [("b", 400)]


def test_opening_and_adding_do_not_cost_more_in_a_large_store(path: Path) -> None:
    entries = [replace(ENTRY, name=f"{i:06}/{i}", source=f"../photos/{i:06}/{i}.jpg") for i in range(50_000)]
    manifest = written(path, *entries)

    def add_one(number: int) -> None:
        manifest = opened(path)
        assert manifest.of_source(entries[number].source) == entries[number]
        with manifest.transaction():
            manifest.put(replace(ENTRY, name=f"new {number}"))

    began = time.process_time()
    for number in range(100):
        add_one(number)
    adding = time.process_time() - began
    began = time.process_time()
    assert len(list(manifest.entries())) == 50_100
    assert adding / 100 < (time.process_time() - began) / 10
