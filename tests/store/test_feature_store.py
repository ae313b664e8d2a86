from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import BitstreamError, StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.locking import exclusive, remove_strays
from clip_feature_codec.store.writing import NewPicture
from samples import is_current

DIM = 24
SPACE = ClipSpace("test-model", "test-weights", "ab" * 32, DIM, {"size": [32, 32]})


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "store", FeatureCodec.fit(unit_vectors(50), SPACE))


def new_picture(photos: Path, inside: str, width: int = 40, height: int = 30) -> NewPicture:
    """A file that stands for a picture: the store looks at its size and time alone."""
    path = photos / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(inside.encode())
    status = path.stat()
    return NewPicture(inside, width, height, status.st_size, status.st_mtime_ns)


def add(store: FeatureStore, photos: Path, *insides: str, seed: int = 0) -> np.ndarray:
    vectors = unit_vectors(len(insides), seed)
    store.add(photos, [new_picture(photos, inside) for inside in insides], Layers(vectors))
    return vectors


def test_a_store_is_the_same_when_opened_again(store: FeatureStore, photos: Path) -> None:
    vectors = add(store, photos, "b.jpg", "a/x.png", "c.gif")
    again = FeatureStore.open(store.folder)
    assert again.entries == store.entries
    assert len(again) == 3
    assert [entry.name for entry in again.entries] == ["b", "a/x", "c"]
    assert again.codec.tables_sha256 == store.codec.tables_sha256
    decoded = again.vectors()
    assert decoded.dtype == np.float32
    assert (np.sum(decoded * vectors, axis=1) > 0.998).all()
    assert np.array_equal(again.vectors([again.entries[2], again.entries[0]]), decoded[[2, 0]])


def test_entries_say_what_is_in_the_files(store: FeatureStore, photos: Path) -> None:
    store.add(
        photos, [new_picture(photos, "deep/wide.jpg", 200, 100)], Layers(unit_vectors(1), aspects=[2.0])
    )
    (entry,) = store.entries
    assert store.stream_path(entry) == store.folder / "deep" / "wide.clp"
    assert store.stream_path(entry).stat().st_size == entry.bytes
    assert Path(store.source_place(entry)).resolve() == (photos / "deep" / "wide.jpg").resolve()
    assert (entry.width, entry.height) == (200, 100)
    assert entry.source_bytes == (photos / "deep" / "wide.jpg").stat().st_size
    assert store.read(entry).aspect == pytest.approx(2.0, rel=0.01)


def test_names_do_not_collide(store: FeatureStore, photos: Path) -> None:
    insides = ["X.JPG", "a/x.jpg", "b/x.png", "x.jpg", "x.png", "x.jpg.gif", "X.jpg", "x.PNG"]
    vectors = add(store, photos, *insides)
    names = [entry.name for entry in store.entries]
    assert names[:5] == ["X", "a/x", "b/x", "x.jpg", "x.png"]
    assert len({name.casefold() for name in names}) == len(insides)
    again = FeatureStore.open(store.folder)
    assert [Path(store.source_place(entry)).name for entry in again.entries] == [
        Path(i).name for i in insides
    ]
    assert (np.sum(again.vectors() * vectors, axis=1) > 0.998).all()


def test_a_folder_called_like_a_stream_is_not_in_its_way(store: FeatureStore, photos: Path) -> None:
    add(store, photos, "y.jpg", "y.clp/z.jpg", "Y.CLP/deep.clp/z.jpg")
    assert len(FeatureStore.open(store.folder).vectors()) == 3


def test_pictures_added_later_do_not_take_names_that_are_taken(store: FeatureStore, photos: Path) -> None:
    add(store, photos, "x.png")
    first = store.read(store.entries[0])
    add(FeatureStore.open(store.folder), photos, "x.jpg", seed=1)
    again = FeatureStore.open(store.folder)
    assert [entry.name for entry in again.entries] == ["x", "x.jpg"]
    assert again.read(again.entries[0]) == first


def test_a_changed_picture_keeps_its_name_and_place(store: FeatureStore, photos: Path) -> None:
    add(store, photos, "a.jpg", "b.jpg")
    changed = new_picture(photos, "a.jpg", 10, 90)
    vectors = unit_vectors(1, seed=9)
    store.add(photos, [changed], Layers(vectors))
    again = FeatureStore.open(store.folder)
    assert [entry.name for entry in again.entries] == ["a", "b"]
    assert again.entries[0].height == 90
    assert float(again.vectors()[0] @ vectors[0]) > 0.998


def test_adding_the_same_again_changes_nothing(store: FeatureStore, photos: Path) -> None:
    vectors = unit_vectors(2)
    pictures = [new_picture(photos, name) for name in ("a.jpg", "b.jpg")]
    store.add(photos, pictures, Layers(vectors))
    before = {path: path.read_bytes() for path in store.folder.rglob("*.*")}
    FeatureStore.open(store.folder).add(photos, pictures, Layers(vectors))
    assert {path: path.read_bytes() for path in store.folder.rglob("*.*")} == before


def test_current_means_same_file_and_a_stream_that_is_there(store: FeatureStore, photos: Path) -> None:
    add(store, photos, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    new_picture(photos, "unknown.jpg")
    os.utime(photos / "b.jpg", ns=(1, 1))
    (photos / "c.jpg").unlink()
    (store.folder / "d.clp").unlink()
    (store.folder / "e.clp").write_bytes(b"")
    names = ("a", "b", "c", "d", "e", "unknown")
    assert [name for name in names if is_current(store, photos / f"{name}.jpg")] == ["a"]


def test_store_and_pictures_may_move_together(store: FeatureStore, photos: Path, tmp_path: Path) -> None:
    add(store, photos, "a.jpg", "deep/b.jpg")
    (tmp_path / "elsewhere" / "further").mkdir(parents=True)
    for folder in (photos, store.folder):
        shutil.move(folder, tmp_path / "elsewhere" / "further")
    moved = FeatureStore.open(tmp_path / "elsewhere" / "further" / "store")
    assert all(is_current(moved, Path(moved.source_place(entry))) for entry in moved.entries)
    assert is_current(moved, tmp_path / "elsewhere" / "further" / "photos" / "deep" / "b.jpg")


def test_links_to_folders_are_seen_through_but_two_names_are_two_pictures(
    store: FeatureStore, photos: Path, tmp_path: Path
) -> None:
    add(store, photos, "a.jpg")
    (tmp_path / "alias").symlink_to(photos)
    (photos / "same.jpg").symlink_to(photos / "a.jpg")
    assert is_current(store, tmp_path / "alias" / "a.jpg")
    assert not is_current(store, photos / "same.jpg")
    status = (photos / "a.jpg").stat()
    store.add(
        photos,
        [NewPicture("same.jpg", 40, 30, status.st_size, status.st_mtime_ns)],
        Layers(unit_vectors(1, seed=3)),
    )
    assert [entry.name for entry in store.entries] == ["a", "same"]


def test_reading_notices_changed_and_missing_streams(store: FeatureStore, photos: Path) -> None:
    add(store, photos, "a.jpg", "b.jpg", "c.jpg")
    flipped, replaced, missing = store.entries
    path = store.stream_path(flipped)
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    # A whole stream of the same codec, but of another picture: only the manifest can tell.
    shutil.copy(store.stream_path(missing), store.stream_path(replaced))
    store.stream_path(missing).unlink()
    for entry in (flipped, replaced, missing):
        with pytest.raises(BitstreamError, match=rf"{entry.name}\.clp") as caught:
            store.read(entry)
        assert "\n" not in str(caught.value)
    with pytest.raises(BitstreamError):
        store.vectors()


def test_what_is_no_store_is_refused_with_its_name(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="nowhere is not a store"):
        FeatureStore.open(tmp_path / "nowhere")
    (store.folder / "codec.json").write_text("{}")
    with pytest.raises(StoreError, match=r"codec\.json"):
        FeatureStore.open(store.folder)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "store"
    with exclusive(folder), pytest.raises(StoreError, match="another process"), exclusive(folder):
        pass
    with exclusive(folder):
        pass


def test_a_store_cannot_be_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be written"), exclusive(folder):
            pass


def test_strays_are_what_killed_writers_leave_and_nothing_else(store: FeatureStore, photos: Path) -> None:
    add(store, photos, "a.jpg", "deep/b.jpg")
    for stray in (".0a0a0a0a.json.tmp", ".0b0b0b0b.clp.tmp", "deep/.0c0c0c0c.clp.tmp"):
        (store.folder / stray).touch()
    kept = [".0d0d0d0d.pt.tmp", "a.tmp"]  # a training may be writing its weights just now
    for name in kept:
        (store.folder / name).touch()
    remove_strays(store.folder)
    left = {p.relative_to(store.folder).as_posix() for p in store.folder.rglob("*") if p.is_file()}
    assert left == {"codec.json", "manifest.sqlite", "a.clp", "deep/b.clp", *kept}
