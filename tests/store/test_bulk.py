"""A store that grows by whole shards ends as one that is written to row by row, whenever it is killed."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest
from packed_samples import Facts, add, codec, facts, pictures, rows_of_others, streams

from clip_feature_codec.store.manifest import DonePart
from clip_feature_codec.store.packed import PackedStore, bulk
from clip_feature_codec.store.packed.bulk import BulkStore
from clip_feature_codec.store.packed.shards import write_shard


@pytest.fixture(autouse=True)
def _small(small_shards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SHARD_ROWS", 12)


def bulk_store(folder: Path) -> BulkStore:
    return BulkStore(folder, codec(), write_shard)


def fill(store: PackedStore) -> Facts:
    """New pictures, changed ones, such as are put in twice, and names that others have already."""
    for start in range(0, 30, 5):
        add(store, range(start, start + 5), seed=start)
    add(store, [3, 17, 28, 28], seed=50, changed=9)
    add(store, [29, 30], seed=60, changed=5)
    other = store.folder.parent / "photos/more"
    store.put(other, pictures(range(3)), streams(3, 70))
    store.finish()
    return facts(store)


def test_it_ends_with_the_rows_that_a_packed_store_has(tmp_path: Path, packed: PackedStore) -> None:
    PackedStore.create(tmp_path / "bulk", codec())
    expected, store = fill(packed), bulk_store(tmp_path / "bulk")
    assert fill(store) == expected == facts(PackedStore.open(tmp_path / "bulk"))
    assert sorted(rows_of_others(store.folder)) == sorted(name for name, *_ in expected)
    assert len({name.casefold() for name, *_ in expected}) == len(expected) == 34


def test_what_waits_is_lost_with_the_process_and_taken_up_by_doing_it_again(packed: PackedStore) -> None:
    killed = bulk_store(packed.folder)
    add(killed, range(10))
    assert (killed.is_kept, facts(PackedStore.open(packed.folder))) == (False, [])
    add(killed, range(10, 15))
    assert killed.is_kept
    add(killed, range(15, 20))
    again = bulk_store(packed.folder)
    assert len(again.entries) == 15
    for start in (0, 10, 15):
        add(again, range(start, start + (10 if not start else 5)))
    again.finish()
    assert [name for name, *_ in facts(again)] == [f"d{i % 3}/p{i:05}" for i in range(20)]


def test_a_shard_that_cannot_be_written_loses_nothing_of_what_is_there(packed: PackedStore) -> None:
    add(packed, range(4))
    before = facts(packed)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = BulkStore(packed.folder, codec(), refuse)
    add(store, [2, 9], seed=5, changed=8)
    with pytest.raises(OSError, match="No space"):
        store.finish()
    assert facts(PackedStore.open(packed.folder)) == before


def test_what_waits_long_is_sealed_and_small_shards_do_not_become_many(
    packed: PackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_LONGEST_WAIT", -1.0)
    written: list[int] = []

    def write(path: Path, table: pyarrow.Table, codec_id: str) -> None:
        written.append(table.num_rows)
        write_shard(path, table, codec_id)

    store = BulkStore(packed.folder, codec(), write)
    for i in range(20):
        add(store, [i])
        assert store.is_kept
    assert len(facts(store)) == 20
    assert (len(list((store.folder / "data").iterdir())) <= 6, sum(written) < 100) == (True, True)


def test_an_archive_counts_as_done_when_its_pictures_are_in_a_shard(packed: PackedStore) -> None:
    store = bulk_store(packed.folder)
    done = DonePart("as it was", 3, [])
    add(store, range(3))
    store.finish_part("a.tar", done)
    assert PackedStore.open(packed.folder).done_part("a.tar") is None
    store.finish()
    assert PackedStore.open(packed.folder).done_part("a.tar") == done
    store.finish_part("b.tar", done)
    assert PackedStore.open(packed.folder).done_part("b.tar") == done
