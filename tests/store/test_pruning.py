"""Pictures are taken out of a store, or moved in it, whoever is killed or reads meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from search_samples import space, unit_vectors

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.errors import BitstreamError, StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.locking import exclusive
from clip_feature_codec.store.manifest import Manifest
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.pruning import missing_pictures, prune_store
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture
from samples import is_current

INSIDES = ["a.jpg", "deep/b.jpg", "deep/er/c.jpg", "d.jpg"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Files that stand for pictures: a store looks at their size and time alone."""
    for inside in INSIDES:
        (tmp_path / "photos" / inside).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / inside).write_text(inside)
    return tmp_path / "photos"


def add(store: FeatureStore, photos: Path, insides: list[str], seed: int = 0) -> None:
    pictures = []
    for inside in insides:
        status = (photos / inside).stat()
        pictures.append(NewPicture(inside, 4, 3, status.st_size, status.st_mtime_ns))
    store.add(photos, pictures, Layers(unit_vectors(len(insides), seed)))


@pytest.fixture
def store(tmp_path: Path, photos: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "store", FeatureCodec.fit(unit_vectors(50, 99), space()))
    add(store, photos, INSIDES)
    return FeatureStore.open(store.folder)


def names(folder: Path) -> list[str]:
    return [entry.name for entry in FeatureStore.open(folder).entries]


def streams(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.clp"))


def test_missing_is_what_was_deleted_and_not_what_cannot_be_reached(
    store: FeatureStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing_pictures(store) == []
    (photos / "a.jpg").unlink()
    shutil.rmtree(photos / "deep" / "er")
    (photos / "deep" / "er").touch()
    assert [entry.name for entry in missing_pictures(store)] == ["a", "deep/er/c"]

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    assert missing_pictures(store) == []


def test_pruning_takes_out_what_is_missing_and_nothing_else(store: FeatureStore, photos: Path) -> None:
    """Fault 26: no command did."""
    shutil.rmtree(photos / "deep")
    kept = {name: (store.folder / f"{name}.clp").read_bytes() for name in ("a", "d")}
    (store.folder / "own.txt").touch()
    assert [entry.name for entry in prune_store(store.folder)] == ["deep/b", "deep/er/c"]
    assert names(store.folder) == streams(store.folder) == ["a", "d"]
    assert {name: (store.folder / f"{name}.clp").read_bytes() for name in kept} == kept
    assert not (store.folder / "deep").exists()
    assert (store.folder / "own.txt").exists()
    assert prune_store(store.folder) == []


def test_a_store_of_which_nothing_would_be_left_is_not_pruned(store: FeatureStore, photos: Path) -> None:
    shutil.rmtree(photos)
    with pytest.raises(StoreError, match="none of its 4 pictures is where it was"):
        prune_store(store.folder)
    assert len(names(store.folder)) == len(streams(store.folder)) == 4


def test_nobody_else_may_be_writing(store: FeatureStore) -> None:
    with exclusive(store.folder), pytest.raises(StoreError, match="another process"):
        prune_store(store.folder)
    with pytest.raises(StoreError, match="not a store"):
        prune_store(store.folder / "nowhere")
    assert not (store.folder / "nowhere").exists()


def test_a_picture_that_comes_back_is_added_at_the_end(store: FeatureStore, photos: Path) -> None:
    (photos / "a.jpg").unlink()
    prune_store(store.folder)
    (photos / "a.jpg").write_text("again")
    add(FeatureStore.open(store.folder), photos, ["a.jpg"], seed=5)
    again = FeatureStore.open(store.folder)
    assert [entry.name for entry in again.entries] == ["deep/b", "deep/er/c", "d", "a"]
    assert float(again.vectors()[3] @ unit_vectors(1, 5)[0]) > 0.99
    (photos / "d.jpg").unlink()
    prune_store(store.folder)  # looks for what an earlier removal has left
    assert streams(store.folder) == ["a", "deep/b", "deep/er/c"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before the manifest", "before the streams", "between two streams"])
def test_killed_at_any_moment_and_pruned_again_all_is_as_it_should_be(
    store: FeatureStore, photos: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(photos / "deep")
    unlinked: list[Path] = []
    commit, unlink = Manifest._commit, Path.unlink

    def watched_commit(manifest: Manifest) -> None:
        if moment == "before the manifest":
            raise Killed
        commit(manifest)

    def watched_unlink(path: Path, missing_ok: bool = False) -> None:
        unlinked.append(path)
        if len(unlinked) > (moment == "between two streams"):
            raise Killed
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "_commit", watched_commit)
        patch.setattr(Path, "unlink", watched_unlink)
        with pytest.raises(Killed):
            prune_store(store.folder)
    # Whoever reads now finds every stream that the manifest knows.
    assert len(FeatureStore.open(store.folder).vectors()) == (4 if moment == "before the manifest" else 2)
    prune_store(store.folder)
    assert names(store.folder) == streams(store.folder) == ["a", "d"]


def test_finishing_a_removal_spares_files_that_are_others_by_now(store: FeatureStore, photos: Path) -> None:
    shutil.rmtree(photos / "deep")
    prune_store(store.folder)
    (store.folder / "deep").mkdir()
    (store.folder / "deep/b.clp").write_bytes(b"somebody's own")
    prune_store(store.folder)
    assert (store.folder / "deep/b.clp").read_bytes() == b"somebody's own"


def test_a_reader_that_opened_the_store_before_meets_missing_streams_and_goes_on(
    store: FeatureStore, photos: Path
) -> None:
    index, entries = SearchIndex.open(store), store.entries
    shutil.rmtree(photos / "deep")
    prune_store(store.folder)
    failures: list[tuple[str, str]] = []
    whole = list(store.whole_streams(failures, entries))
    assert ([entry.name for entry, _ in whole], len(failures)) == (["a", "d"], 2)
    with pytest.raises(BitstreamError, match=r"b\.clp: cannot be read"):
        store.read(entries[1])
    found = [hit.entry.name for hit in index.nearest(np.ones(16, np.float32), 4)]
    assert sorted(found) == ["a", "d"]
    again = SearchIndex.open(open_store(store.folder))
    assert (len(again), again.failures) == (2, [])


@pytest.mark.parametrize("name", ["x.jpg", "X.JPG"])
def test_a_moved_picture_keeps_its_stream(store: FeatureStore, photos: Path, name: str) -> None:
    (entry, *_), blob = store.entries, (store.folder / "a.clp").read_bytes()
    (photos / "a.jpg").rename(photos / name)
    store.move(entry, photos, name)
    again = FeatureStore.open(store.folder)
    (moved,) = (e for e in again.entries if e.source.endswith(name))
    assert moved.name == Path(name).stem
    assert again.read(moved).blob == blob
    assert is_current(again, photos / name)
    assert len(streams(store.folder)) == len(again) == 4
