"""Whether pictures are in a store is told of many as of each, and of the store's own order in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed_samples import add, codec, pictures
from pyarrow import array, large_string

from clip_feature_codec.store.catalogue import Catalogue
from clip_feature_codec.store.manifest import Entry, to_text
from clip_feature_codec.store.opening import create_store
from clip_feature_codec.store.packed import PackedStore, names
from clip_feature_codec.store.writing import WritableStore

Facts = tuple[str, int, int]


@pytest.fixture(params=["loose", "sealed", "waiting"])
def store(request: pytest.FixtureRequest, tmp_path: Path, small_shards: None) -> WritableStore:
    """Thirty pictures, of which some were taken out and some coded again."""
    store = create_store(tmp_path / "store", codec(), packed=request.param != "loose")
    add(store, range(30))
    if request.param == "sealed":
        store.finish()
    store.remove([entry for entry in store.entries if entry.name in ("d0/p00000", "d2/p00008", "d1/p00022")])
    add(store, [4, 17], seed=1, changed=1)
    return store


def listed(store: WritableStore, numbers: list[int], changed: int = 0) -> list[Facts]:
    photos = store.folder.parent / "photos"
    return [
        (str(photos / new.inside), new.source_bytes, new.source_mtime_ns)
        for new in pictures(numbers, changed)
    ]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, 33)), changed=st.integers(0, 1))
def test_of_many_it_is_told_as_of_each_whatever_their_order(
    store: WritableStore, numbers: list[int], changed: int
) -> None:
    facts = listed(store, numbers, changed)
    assert list(store.has_each(facts)) == [store.has(*each) for each in facts]


def test_in_the_order_of_the_store_nothing_is_looked_up(
    store: WritableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up each took 110 µs a picture: 17 seconds to find that nothing is to be done for 100,000."""
    entries = list(store.entries)
    facts = [(store.source_place(e), e.source_bytes, e.source_mtime_ns) for e in entries]
    asked: list[str] = []
    of_source = type(store._catalogue).of_source

    def counted(catalogue: Catalogue, source: str) -> Entry | None:
        asked.append(source)
        return of_source(catalogue, source)

    monkeypatch.setattr(type(store._catalogue), "of_source", counted)
    assert list(store.has_each(facts)) == [True] * 27
    assert asked == []
    assert list(store.has_each(facts[5:] + facts[:5])) == [True] * 27
    assert asked == [entries[5].source, entries[0].source]


def test_what_is_behind_an_entry_is_the_rest_of_the_store(store: WritableStore) -> None:
    entries = list(store.entries)
    assert list(store._catalogue.after(None)) == entries
    for number, entry in enumerate(entries):
        assert list(store._catalogue.after(entry)) == entries[number + 1 :]


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=300), max_size=20))
def test_a_text_is_found_by_one_key_alone_and_among_others(texts: list[str]) -> None:
    held = array(["x", *map(to_text, texts)], large_string()).slice(1)
    assert names._hashes(held).tolist() == [int(names._hash(text)) for text in texts]
    assert len({int(names._hash(text)) for text in texts}) == len(set(texts))


@pytest.mark.parametrize("name", ["Straße/Ä", "ASCII/Only", "x\udcff", "K"])
def test_names_are_found_whatever_their_case(packed: PackedStore, name: str) -> None:
    entry = Entry(name, f"../{name}.jpg", "00" * 16, 1, 4, 3, 1, 1, 1, 0)
    packed._journal.keep()
    packed._journal.append(entry, b"x")
    packed.finish()
    found = PackedStore.open(packed.folder)._catalogue
    for same in {name, name.upper(), name.lower(), name.casefold()}:
        assert found.named(same) == (entry if same.casefold() == name.casefold() else None)
    assert found.named(f"{name}s") is None
