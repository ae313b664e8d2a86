"""A packed store gives what a folder of streams gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packed_samples import add, codec, facts, pictures, rows_of_others, streams
from pyarrow import parquet
from search_samples import make_store, unit_vectors

from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError
from clip_feature_codec.store.copying import copy_store
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.opening import create_store, is_packed, open_store
from clip_feature_codec.store.packed import PackedStore
from clip_feature_codec.store.packed.shards import Shard
from clip_feature_codec.store.pruning import prune_store
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.transcoding import transcode_store
from clip_feature_codec.store.verifying import verify_store
from clip_feature_codec.store.writing import NewPicture, NewStream


def test_before_and_after_it_is_sealed_it_gives_what_a_folder_store_gives(
    tmp_path: Path, small_shards: None
) -> None:
    both = [create_store(tmp_path / kind, codec(), packed=kind == "packed") for kind in ("packed", "loose")]
    for start in (0, 20, 27):
        for store in both:
            store.put(tmp_path / "photos", pictures(range(start, start + 20)), streams(20, start))
    for sealed in (False, True):
        packed, loose = (open_store(tmp_path / kind) for kind in ("packed", "loose"))
        assert (type(packed), type(loose)) == (PackedStore, FeatureStore)
        order = sorted(packed.entries, key=lambda entry: entry.name)
        assert order == sorted(loose.entries, key=lambda entry: entry.name)
        assert [packed.read(e) for e in order] == [loose.read(e) for e in order]
        assert packed.totals() == loose.totals()
        assert len(packed) == len(packed.entries) == len(loose) == 47
        assert packed.entries[3] == list(packed.entries)[3]
        assert packed.entries[-2:] == list(packed.entries)[-2:]
        assert packed.named("d1/p00040") == loose.named("d1/p00040")
        assert packed.named("d1/p00041") is None
        if not sealed:
            both[0].finish()


def test_pictures_coded_again_are_there_once_for_others_too(packed: PackedStore, small_shards: None) -> None:
    add(packed, range(30))
    packed.finish()
    add(packed, [3, 17, 29], seed=7, changed=5)
    expected = {**dict(zip([f"d{i % 3}/p{i:05}" for i in range(30)], streams(30), strict=True))}
    expected |= dict(zip(["d0/p00003", "d2/p00017", "d2/p00029"], streams(3, 7), strict=True))
    for _ in range(2):
        assert {name: blob for name, _, blob, _ in facts(open_packed(packed))} == expected
        packed.finish()
    assert sorted(rows_of_others(packed.folder)) == sorted(expected)
    before = contents(packed)
    add(packed, [3, 17, 29], seed=7, changed=5)  # nothing that is new
    packed.finish()
    assert contents(packed) == before


def open_packed(store: PackedStore) -> PackedStore:
    return PackedStore.open(store.folder)


def contents(store: PackedStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store.folder / "data").iterdir()}


def test_a_little_is_added_often_and_shards_stay_few_and_in_order(
    packed: PackedStore, small_shards: None
) -> None:
    for i in range(40):
        add(packed, [i], seed=i)
        packed.finish()
    files = sorted(path.name for path in (packed.folder / "data").iterdir())
    assert len(files) <= 7
    assert rows_of_others(packed.folder) == [e.name for e in open_packed(packed).entries]
    assert [e.name[3:] for e in open_packed(packed).entries] == [f"p{i:05}" for i in range(40)]


def test_what_is_taken_out_is_gone_for_our_readers_at_once_and_for_others_when_it_is_finished(
    packed: PackedStore, small_shards: None
) -> None:
    add(packed, range(30))
    packed.finish()
    add(packed, range(30, 34), seed=1)
    everything, listed = packed.entries, list(packed.entries)
    gone = [listed[i] for i in (0, 5, 12, 31)]
    blobs = [packed.blob(e) for e in listed]
    packed.remove(gone)
    left = [e for e in listed if e not in gone]
    again = open_packed(packed)
    assert (list(packed.entries), list(again.entries)) == (left, left)
    assert packed.totals() == again.totals()
    assert packed.totals().pictures == 30
    assert all(again.named(e.name) is None for e in gone)
    packed.finish()
    assert rows_of_others(packed.folder) == [e.name for e in left] == [e.name for e in again.entries]
    # Whoever has listed them before still reads those that are there, and those of the old shards.
    assert [packed.blob(e) for e in listed[:31]] == blobs[:31]
    assert list(everything[:30]) == listed[:30]
    with pytest.raises(BitstreamError, match="no longer in the store"):
        packed.blob(listed[31])
    assert packed.blob(listed[33]) == blobs[33]


def test_missing_pictures_are_pruned_and_moved_ones_followed(tmp_path: Path, packed: PackedStore) -> None:
    for picture in pictures(range(6)):
        path = tmp_path / "photos" / picture.inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    add(packed, range(6))
    packed.finish()
    (tmp_path / "photos/d0/p00000.jpg").rename(tmp_path / "photos/d1/new.jpg")
    (tmp_path / "photos/d0/p00003.jpg").unlink()
    old = packed.named("d0/p00000")
    assert old is not None
    packed.move(old, tmp_path / "photos", "d1/new.jpg")
    packed.finish()
    assert [e.name for e in prune_store(packed.folder)] == ["d0/p00003"]
    left = ["d1/p00001", "d2/p00002", "d1/p00004", "d2/p00005", "d1/new"]
    assert rows_of_others(packed.folder) == left
    again = open_packed(packed)
    new = again.named("d1/new")
    assert new is not None
    assert (again.blob(new), Path(again.source_place(new))) == (
        packed.blob(old),
        packed.folder / "../photos/d1/new.jpg",
    )
    assert [e.name for e in again.entries_below(tmp_path / "photos/d1")] == [
        "d1/p00001",
        "d1/p00004",
        "d1/new",
    ]


def test_names_are_free_or_not_as_in_a_folder_store(
    tmp_path: Path, packed: PackedStore, small_shards: None
) -> None:
    loose = create_store(tmp_path / "loose", codec())
    insides = [
        "X.JPG",
        "a/x.jpg",
        "x.jpg",
        "x.png",
        "x.jpg.gif",
        "y.clp/z.jpg",
        *(f"{i}.jpg" for i in range(20)),
    ]
    odd = os.fsdecode(b"caf\xe9.jpg")
    for store in (packed, loose):
        for inside in [*insides, odd, "X.jpg", "Ä.jpg", "ä.jpg"]:
            store.put(tmp_path, [pictures([0])[0].__class__(inside, 4, 3, 1, 1)], streams(1))
    packed.finish()
    expected = [(e.name, e.source) for e in loose.entries]
    assert [(e.name, e.source) for e in open_packed(packed).entries] == expected
    found = open_packed(packed).named(odd.removesuffix(".jpg"))
    assert found is not None


def test_one_stream_is_read_without_its_shard(
    packed: PackedStore, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(packed, range(0, 36, 3))
    packed.finish()
    read: list[tuple[int, list[str]]] = []
    plain = Shard._read
    monkeypatch.setattr(
        Shard,
        "_read",
        lambda self, group, columns: (read.append((group, columns)), plain(self, group, columns))[1],
    )
    store = open_packed(packed)
    entry = store.named("d0/p00018")
    assert entry is not None
    store.blob(entry)
    assert {group for group, _ in read} == {1}
    assert sum("stream" in columns for _, columns in read) == 1


def test_a_copy_and_the_way_back_are_the_same_and_go_on(tmp_path: Path, searched: FeatureStore) -> None:
    (searched.folder / "diffusion_unet_final.pt").write_bytes(b"a decoder")
    assert copy_store(searched, tmp_path / "packed", packed=True) == (40, [])
    assert copy_store(open_store(tmp_path / "packed"), tmp_path / "back", packed=False) == (40, [])
    assert copy_store(searched, tmp_path / "packed", packed=True) == (0, [])
    make_store(searched.folder, unit_vectors(2, 8), start=100)
    assert copy_store(searched, tmp_path / "packed", packed=True) == (2, [])
    assert (tmp_path / "back/diffusion_unet_final.pt").read_bytes() == b"a decoder"
    for name, count in (("packed", 42), ("back", 40)):
        store = open_store(tmp_path / name)
        assert is_packed(store.folder) == (name == "packed")
        assert [e.name for e in store.entries] == [e.name for e in searched.entries][:count]
        sources = [Path(searched.source_place(e)).resolve() for e in searched.entries][:count]
        assert [Path(store.source_place(e)).resolve() for e in store.entries] == sources
        assert [store.blob(e) for e in store.entries] == [searched.blob(e) for e in searched.entries][:count]
    with pytest.raises(ConfigError, match="found a packed store, expected a folder of streams"):
        copy_store(searched, tmp_path / "packed", packed=False)
    with pytest.raises(ConfigError, match="the store itself"):
        copy_store(searched, searched.folder, packed=True)
    with pytest.raises(ConfigError, match="tables of its own"):
        copy_store(
            create_store(tmp_path / "x", codec().fit(unit_vectors(9), codec().space)),
            tmp_path / "packed",
            packed=True,
        )


def test_it_is_searched_transcoded_and_verified(tmp_path: Path, searched: FeatureStore) -> None:
    copy_store(searched, tmp_path / "packed", packed=True)
    store, query = open_store(tmp_path / "packed"), unit_vectors(1, 5)[0]
    hits = [
        [(hit.entry.name, hit.cosine) for hit in SearchIndex.open(s).nearest(query, 9)]
        for s in (searched, store)
    ]
    assert hits[0] == hits[1]
    result = transcode_store(store, tmp_path / "small", Rate(quality=10), packed=True)
    assert result.bytes_after == open_store(tmp_path / "small").totals().bytes
    assert np.allclose(store.vectors(), searched.vectors())
    assert verify_store(store) == []


def test_damage_is_found_and_named(packed: PackedStore) -> None:
    add(packed, range(9))
    packed.finish()
    (file,) = (packed.folder / "data").iterdir()
    whole, damaged = file.read_bytes(), packed.entries[4]
    at = whole.index(packed.blob(damaged))
    file.write_bytes(whole[: at + 9] + bytes([whole[at + 9] ^ 1]) + whole[at + 10 :])
    failures = verify_store(open_packed(packed))
    assert len(failures) == 1
    assert f"{damaged.name}.clp: SHA-256 differs" in failures[0][1]
    file.write_bytes(whole[:-20])
    with pytest.raises(StoreError, match=r"streams-00000.*parquet: cannot be read") as caught:
        open_packed(packed)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(StoreError, match=r"streams-00000.*parquet"):
        open_packed(packed)


def test_shards_and_tables_alone_are_a_store_as_others_hand_it_on(
    packed: PackedStore, small_shards: None
) -> None:
    add(packed, range(30))
    packed.finish()
    expected = facts(packed)
    (packed.folder / "packed.sqlite").unlink()
    store = open_packed(packed)
    assert facts(store) == expected
    assert not (packed.folder / "packed.sqlite").exists()  # a reader writes nothing
    add(store, [40], seed=4)
    store.finish()
    assert facts(open_packed(packed))[:30] == expected
    assert rows_of_others(packed.folder)[30:] == ["d1/p00040"]


def test_at_most_40_bytes_a_picture_beyond_its_stream(packed: PackedStore) -> None:
    random = np.random.default_rng(0)
    blobs = streams(2000)
    many = [
        Entry(f"{i // 100:03}/IMG_{i:05}", f"../photos/{i // 100:03}/IMG_{i:05}.jpg", "", 0, *sizes)
        for i, sizes in enumerate(
            zip(
                random.choice([640, 1024, 3000], 10_000).tolist(),
                random.choice([480, 768, 2000], 10_000).tolist(),
                random.integers(20_000, 5_000_000, 10_000).tolist(),
                random.integers(1_500_000_000 * 10**9, 1_700_000_000 * 10**9, 10_000).tolist(),
                strict=True,
            )
        )
    ]
    entries = [packed._with_stream(entry, blobs[i % 2000]) for i, entry in enumerate(many)]
    packed._write(NewStream(Path(), None, entry, blobs[i % 2000]) for i, entry in enumerate(entries))
    packed.finish()
    room = sum(path.stat().st_size for path in (packed.folder / "data").iterdir())
    room += (packed.folder / "packed.sqlite").stat().st_size
    assert (room - packed.totals().bytes) / 10_000 < 40


def beyond_streams(store: PackedStore) -> float:
    """Bytes of the shards for each picture, streams not counted."""
    size = sum(path.stat().st_size for path in (store.folder / "data").iterdir())
    return (size - store.totals().bytes) / len(store)


def test_a_picture_takes_no_more_than_forty_bytes_beyond_its_stream(tmp_path: Path) -> None:
    """Names without any order are the hardest: of eight letters or digits, 5.2 bytes cannot be left out."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789"))
    for kind in ("numbered", "random"):
        store = PackedStore.create(tmp_path / kind / "packed", codec())
        names = [
            f"IMG_{i:05}" if kind == "numbered" else "".join(random.choice(letters, 8)) for i in range(8000)
        ]
        sizes = random.choice([[4000, 3000], [3000, 4000], [6000, 4000], [1600, 1200], [1080, 1920]], 8000)
        files = random.integers([10**5, 10**18], [5 * 10**6, 2 * 10**18], (8000, 2))
        facts = np.hstack([sizes, files])
        pictures = [NewPicture(f"{n}.jpg", *map(int, f)) for n, f in zip(names, facts, strict=True)]
        store.put(tmp_path / kind / "photos", pictures, streams(1000) * 8)
        store.finish()
        assert beyond_streams(PackedStore.open(store.folder)) <= 40


READER = """
import sys
from pathlib import Path
from clip_feature_codec.store.opening import open_store
store = open_store(Path(sys.argv[1]))
entries = list(store.entries)
facts = [(store.source_place(e), e.source_bytes, e.source_mtime_ns) for e in entries]
assert all(store.has_each(facts)) and store.has(*facts[2]) and store.totals().pictures == len(entries)
assert [store.blob(e) for e in entries] and store.named(entries[3].name) == entries[3]
store.finish()
sys.exit("pandas" in sys.modules)
"""


def test_whoever_only_reads_does_not_wait_for_pandas(packed: PackedStore) -> None:
    """Arrow imports it for a constant in an expression: half a second, and 25 MB, for each command."""
    add(packed, range(30))
    packed.finish()
    assert subprocess.run([sys.executable, "-c", READER, packed.folder], check=False).returncode == 0


@pytest.mark.parametrize("source", ["photos/a/b.jpg", "elsewhere.jpg", "a/b", "a/b/a/b.png", "x\udcff.jpg"])
def test_sources_come_back_whatever_they_share_with_names(packed: PackedStore, source: str) -> None:
    packed._journal.keep()
    packed._journal.append(Entry("a/b", source, "00" * 16, 1, 4, 3, 1, 1, 1, 0), b"x")
    packed.finish()
    again = open_packed(packed)
    assert [entry.source for entry in again.entries] == [source]
    assert again._names.of_source(source) == again.entries[0]


def test_shards_of_before_are_read_and_taken_along(packed: PackedStore) -> None:
    """Their sources are whole."""
    add(packed, range(5))
    packed.finish()
    expected = facts(packed)
    (path,) = (packed.folder / "data").iterdir()
    table = parquet.read_table(path)
    sources = [entry.source for entry in packed.entries]
    old = table.drop_columns(["source_before", "source_after"]).add_column(1, "source", [sources])
    parquet.write_table(old, path)
    again = open_packed(packed)
    assert facts(again) == expected
    assert again._names.of_source(sources[3]) == again.entries[3]
    add(again, range(5, 9), seed=1)
    again.finish()
    assert facts(open_packed(packed))[:5] == expected
    (path,) = (packed.folder / "data").iterdir()
    assert "source_before" in parquet.read_schema(path).names
