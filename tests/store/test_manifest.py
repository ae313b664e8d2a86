from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.manifest import Entry, Manifest, append_to_manifest, read_manifest

ENTRY = Entry("a/x", "../photos/a/x.jpg", "0" * 64, 321, 640, 480, 98765, 1_700_000_000_123_456_789)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.jsonl"


def line_with(**fields: object) -> bytes:
    return json.dumps({**vars(ENTRY), **fields}).encode() + b"\n"


def fastest(action: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the quickest of some rounds: other processes only ever add."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def test_a_missing_or_empty_manifest_has_no_entries(path: Path) -> None:
    assert read_manifest(path).entries == []
    path.touch()
    assert read_manifest(path).entries == []


@settings(deadline=None, max_examples=50)
@given(
    name=st.text(st.characters(exclude_characters="./\\:\0", exclude_categories=()), min_size=1),
    numbers=st.lists(st.integers(0, 2**63), min_size=5, max_size=5),
)
def test_what_is_appended_is_read_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, name: str, numbers: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_names.jsonl"
    path.unlink(missing_ok=True)
    entries = [Entry(name, f"../{name}.png", "f" * 64, *numbers), ENTRY]
    append_to_manifest(path, entries[:1])
    append_to_manifest(path, entries[1:])
    assert read_manifest(path).entries == entries
    assert path.read_bytes().isascii()


def test_a_later_line_replaces_an_earlier_one_in_its_place(path: Path) -> None:
    other, changed = replace(ENTRY, name="b"), replace(ENTRY, bytes=99)
    append_to_manifest(path, [ENTRY, other])
    append_to_manifest(path, [changed])
    assert read_manifest(path).entries == [changed, other]
    assert path.read_bytes().count(b"\n") == 3


def test_a_removed_name_is_no_entry_until_it_comes_back(path: Path) -> None:
    """Fault 26: nothing could be taken out."""
    other = replace(ENTRY, name="b")
    append_to_manifest(path, [ENTRY, other])
    append_to_manifest(path, removed=[ENTRY.name, "never there"])
    assert read_manifest(path) == Manifest([other], [ENTRY])
    append_to_manifest(path, [ENTRY], removed=["b"])
    assert read_manifest(path) == Manifest([ENTRY], [other])
    assert path.read_bytes().count(b"\n") == 6


@pytest.mark.parametrize("kept", [1, 5, 30])
def test_a_torn_removal_is_none(path: Path, kept: int) -> None:
    append_to_manifest(path, [ENTRY])
    whole = path.read_bytes()
    append_to_manifest(path, removed=[ENTRY.name])
    path.write_bytes(path.read_bytes()[: len(whole) + kept])
    assert read_manifest(path).entries == [ENTRY]


@pytest.mark.parametrize("kept", [1, 20, 5000])
def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_append(path: Path, kept: int) -> None:
    long = replace(ENTRY, name="b" * 9000)
    append_to_manifest(path, [ENTRY, long])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + kept])
    assert read_manifest(path).entries == [ENTRY]
    append_to_manifest(path, [long])
    assert path.read_bytes() == whole


def test_a_manifest_that_is_one_torn_line_starts_anew(path: Path) -> None:
    path.write_bytes(b"x" * 10_000)
    assert read_manifest(path).entries == []
    append_to_manifest(path, [ENTRY])
    assert read_manifest(path).entries == [ENTRY]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[1, 2]\n",
        b"not json\n",
        b"\xff\xfe\xfd\n",
        b"[" * 100_000 + b"\n",
        line_with(bytes="321"),
        line_with(width=True),
        line_with(height=4.5),
        line_with(sha256=None),
        b'{"removed": true}\n',
        b'{"name": 5, "removed": true}\n',
        b'{"name": "x", "removed": 1}\n',
        json.dumps({k: v for k, v in vars(ENTRY).items() if k != "source"}).encode() + b"\n",
    ],
)
def test_a_whole_line_that_is_no_entry_is_named(path: Path, line: bytes) -> None:
    path.write_bytes(line_with() + line)
    with pytest.raises(StoreError, match=r"manifest\.jsonl, line 2") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "", "a\0b"])
def test_names_that_lead_out_of_the_store_are_refused(path: Path, name: str) -> None:
    for line in (line_with(name=name), line_with(name=name, removed=True)):
        path.write_bytes(line)
        with pytest.raises(StoreError, match=r"line 1.*leads out of the store"):
            read_manifest(path)


@pytest.mark.parametrize("name", ["..x", "a..b/c..", "shot 12:30", "é/日本"])
def test_odd_names_that_stay_inside_are_not(path: Path, name: str) -> None:
    path.write_bytes(line_with(name=name))
    assert [entry.name for entry in read_manifest(path).entries] == [name]


def test_fields_of_later_versions_are_passed_over(path: Path) -> None:
    path.write_bytes(line_with(layout_bytes=64))
    assert read_manifest(path).entries == [ENTRY]


def test_a_manifest_that_cannot_be_read_is_one_line(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        read_manifest(path)


def test_100_000_lines_load_and_append_fast(path: Path) -> None:
    entries = [replace(ENTRY, name=f"{i:06}/{i}", source=f"../photos/{i:06}/{i}.jpg") for i in range(100_000)]
    append_to_manifest(path, entries)
    lines = path.read_bytes().splitlines()

    parsing = fastest(lambda: [json.loads(line) for line in lines], rounds=2)
    loading = fastest(lambda: read_manifest(path), rounds=2)
    assert len(read_manifest(path).entries) == len(entries)
    assert loading < 8 * parsing

    small = path.with_name("small.jsonl")
    to_small = fastest(lambda: append_to_manifest(small, [ENTRY]), rounds=20)
    to_large = fastest(lambda: append_to_manifest(path, [ENTRY]), rounds=20)
    assert to_large < 5 * to_small + 0.002  # not with the manifest's length, which is 30,000 times as large
