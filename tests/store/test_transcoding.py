"""A store coded again into another: names, repetition, refusals before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from search_samples import space, unit_vectors

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import ConfigError, MissingLayerError
from clip_feature_codec.store import transcoding
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.transcoding import transcode_store
from clip_feature_codec.store.writing import NewPicture
from samples import make_layouts

DIM = 16


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.fit_klt([unit_vectors(200, 99)], space())


def make_store(folder: Path, codec: FeatureCodec, insides: list[str], seed: int) -> FeatureStore:
    """A store of pictures in ``folder/photos``, which are not there."""
    store = FeatureStore.create(folder / "store", codec)
    pictures = [NewPicture(inside, 4, 3, 1, 1) for inside in insides]
    store.add(folder / "photos", pictures, Layers(unit_vectors(len(insides), seed)))
    return store


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_stores_with_pictures_of_the_same_names_keep_all_in_one_folder(
    tmp_path: Path, codec: FeatureCodec
) -> None:
    """Fault 2: the first a.jpg was lost."""
    insides = ["a.jpg", "deep/b.jpg", "a.png"]
    one = make_store(tmp_path / "one", codec, insides, 1)
    two = make_store(tmp_path / "two", codec, insides, 2)
    assert [entry.name for entry in one.entries] == ["a", "deep/b", "a.png"]
    both = tmp_path / "both"
    for store in (one, two):
        assert transcode_store(store, both, Rate(quality=60)).failures == []
    found = FeatureStore.open(both)
    assert [entry.name for entry in found.entries] == [
        *("a", "deep/b", "a.png"),
        *("a.jpg", "deep/b.jpg", "a.png.png"),
    ]
    old = np.concatenate([one.vectors(), two.vectors()])
    assert (np.sum(found.vectors() * old, axis=1) > 0.95).all()
    sources = [(Path(store.source_place(entry))).resolve() for store in (one, two) for entry in store.entries]
    assert [Path(found.source_place(entry)).resolve() for entry in found.entries] == sources
    before = files(both)
    for store in (two, one, two):
        transcode_store(store, both, Rate(quality=60))
    assert files(both) == before


def test_the_result_says_what_each_stream_has_become_and_how_far_it_is(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcoding, "STREAMS_AT_ONCE", 2)
    store = make_store(tmp_path / "one", codec, [f"{i}.jpg" for i in range(5)], 1)
    damaged = store.stream_path(store.entries[3])
    damaged.write_bytes(b"damaged")
    told: list[tuple[str | int, ...]] = []
    result = transcode_store(
        store, tmp_path / "new", Rate(max_bytes=12), progress=lambda *what: told.append(what)
    )
    new = FeatureStore.open(tmp_path / "new")
    whole = [entry for entry in store.entries if entry.name != "3"]
    assert [entry.name for entry in new.entries] == [entry.name for entry in whole]
    assert result.streams == 4
    assert result.bytes_before == sum(entry.bytes for entry in whole)
    assert result.bytes_after == new.totals().bytes
    assert [path for path, _ in result.failures] == [str(damaged)]
    assert told == [("transcoding", *at) for at in ((0, 5, 0), (2, 5, 0), (4, 5, 1), (5, 5, 1))]
    assert max(entry.bytes for entry in new.entries) <= 12


def test_what_cannot_be_is_found_before_anything_is_written(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcoding, "STREAMS_AT_ONCE", 1)
    store = make_store(tmp_path / "one", codec, ["a.jpg"], 1)
    layouts = make_layouts(codec, 1)
    store.add(tmp_path, [NewPicture("b.jpg", 4, 4, 1, 1)], Layers(None, layouts), Rate(layers="layout"))
    out = tmp_path / "new"
    with pytest.raises(MissingLayerError, match=r"b\.clp: semantic layer: found none"):
        transcode_store(store, out, Rate(layers="semantic"))
    smallest = codec.smallest("layout")
    with pytest.raises(ConfigError, match=f"found {smallest - 1}, expected at least {smallest}"):
        transcode_store(store, out, Rate(max_bytes=smallest - 1))
    assert not out.exists()
    assert transcode_store(store, out, Rate(max_bytes=smallest)).streams == 2


def test_an_empty_store_becomes_an_empty_store(tmp_path: Path, codec: FeatureCodec) -> None:
    store = FeatureStore.create(tmp_path / "one", codec)
    assert transcode_store(store, tmp_path / "new", Rate()).streams == 0
    assert len(FeatureStore.open(tmp_path / "new")) == 0


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_killed_it_goes_on_where_it_was(
    tmp_path: Path, codec: FeatureCodec, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcoding, "STREAMS_AT_ONCE", 2)
    store = make_store(tmp_path / "one", codec, [f"{i}.jpg" for i in range(9)], 1)
    store.stream_path(store.entries[1]).write_bytes(b"damaged")
    coded: list[int] = []
    plain = transcoding.transcode

    def stop(stage: str, done: int, *_: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    def counted(streams: list[Stream], *args: object) -> list[bytes]:
        coded.append(len(streams))
        return plain(streams, *args)  # type: ignore[arg-type]

    rate = Rate(max_bytes=12)
    whole = transcode_store(store, tmp_path / "whole", rate, packed=packed)
    with pytest.raises(KeyboardInterrupt):
        transcode_store(store, tmp_path / "killed", rate, progress=stop, packed=packed)
    monkeypatch.setattr(transcoding, "transcode", counted)
    again = transcode_store(store, tmp_path / "killed", rate, packed=packed)
    assert sum(coded) == 5  # of nine, four were done
    assert again == whole
    assert (again.streams, len(again.failures)) == (8, 1)
    stores = [open_store(tmp_path / name) for name in ("whole", "killed")]
    assert list(stores[0].entries) == list(stores[1].entries)
    assert [stores[0].blob(e) for e in stores[0].entries] == [stores[1].blob(e) for e in stores[1].entries]
    assert not (tmp_path / "killed/.transcode.json").exists()
    coded.clear()
    transcode_store(store, tmp_path / "killed", Rate(max_bytes=11))  # something else is asked for
    assert sum(coded) == 8
