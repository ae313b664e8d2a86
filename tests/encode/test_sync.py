"""Fault 26: a photograph that was deleted or moved stayed in the store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from encode_samples import PhotoFolder, contents, cosines

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.embed.torch_tower import TorchTower
from clip_feature_codec.encode import EncodeResult, encode_source
from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture


def sync(folder: Path, store: Path, embedder: ClipEmbedder | None) -> EncodeResult:
    return encode_source(folder, store, embedder, sync=True, workers=0)


def names(store: Path) -> list[str]:
    return sorted(entry.name for entry in FeatureStore.open(store).entries)


@pytest.fixture
def stored(photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder) -> tuple[Path, Path]:
    """A folder of five pictures and its store."""
    folder, out = photo_folder(5), tmp_path / "store"
    encode_source(folder, out, embedder, workers=0)
    assert names(out) == ["deep/p002", "p000", "p001", "p003", "p004"]
    return folder, out


def test_what_was_deleted_is_taken_out_with_its_stream(
    stored: tuple[Path, Path], embedder: ClipEmbedder
) -> None:
    folder, out = stored
    shutil.rmtree(folder / "deep")
    (folder / "p001.png").unlink()
    plain = encode_source(folder, out, embedder, workers=0)
    assert (len(plain.store), plain.removed) == (5, 0)
    result = sync(folder, out, embedder)
    assert (result.added, result.unchanged, result.moved, result.removed) == (0, 3, 0, 2)
    assert names(out) == ["p000", "p003", "p004"]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.clp")) == [
        *("p000.clp", "p003.clp", "p004.clp")
    ]
    assert not (out / "deep").exists()
    assert (cosines(FeatureStore.open(out), embedder) > 0.99).all()
    before = contents(out)
    assert sync(folder, out, embedder).removed == 0
    assert contents(out) == before


def test_what_was_moved_is_followed_and_not_coded_again(
    stored: tuple[Path, Path], embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = stored
    streams = {name: (out / f"{name}.clp").read_bytes() for name in names(out)}
    (folder / "2024").mkdir()
    (folder / "p000.png").rename(folder / "2024/first.png")
    (folder / "deep").rename(folder / "p004")  # the folder has the name of a picture
    (folder / "p003.png").rename(folder / "p003.PNG")
    with monkeypatch.context() as patch:
        patch.delattr(TorchTower, "embed_measured")
        result = sync(folder, out, embedder)
    assert (result.added, result.unchanged, result.moved, result.removed) == (0, 5, 3, 0)
    assert names(out) == ["2024/first", "p001", "p003", "p004", "p004/p002"]
    assert (out / "2024/first.clp").read_bytes() == streams["p000"]
    assert (out / "p004/p002.clp").read_bytes() == streams["deep/p002"]
    assert sorted(p.relative_to(out).with_suffix("").as_posix() for p in out.rglob("*.clp")) == names(out)
    assert (cosines(FeatureStore.open(out), embedder) > 0.99).all()
    assert sync(folder, out, embedder).unchanged == 5


def test_a_picture_that_another_has_taken_the_place_of_is_coded_again(
    stored: tuple[Path, Path], embedder: ClipEmbedder
) -> None:
    folder, out = stored
    (folder / "p000.png").rename(folder / "first.png")
    (folder / "p001.png").rename(folder / "p000.png")
    result = sync(folder, out, embedder)
    assert (result.added, result.unchanged, result.moved, result.removed) == (2, 3, 0, 1)
    assert names(out) == ["deep/p002", "first", "p000", "p003", "p004"]
    assert (cosines(FeatureStore.open(out), embedder) > 0.98).all()


def test_of_pictures_that_cannot_be_told_apart_none_is_followed(
    stored: tuple[Path, Path], embedder: ClipEmbedder
) -> None:
    folder, out = stored
    for name in ("p000.png", "p001.png"):
        (folder / name).write_bytes((folder / "p003.png").read_bytes())
        os.utime(folder / name, ns=(1, 1))
    encode_source(folder, out, embedder, workers=0)
    for name in ("p000", "p001"):
        (folder / f"{name}.png").rename(folder / f"new {name}.png")
    result = sync(folder, out, embedder)
    assert (result.added, result.moved, result.removed) == (2, 0, 2)
    assert names(out) == ["deep/p002", "new p000", "new p001", "p003", "p004"]


def test_a_moved_picture_whose_stream_is_damaged_is_coded_again(
    stored: tuple[Path, Path], embedder: ClipEmbedder
) -> None:
    folder, out = stored
    (folder / "p000.png").rename(folder / "moved.png")
    (out / "p000.clp").write_bytes(b"damaged")
    result = sync(folder, out, embedder)
    assert (result.added, result.moved, result.removed) == (1, 0, 1)
    assert (cosines(FeatureStore.open(out), embedder) > 0.98).all()


def test_pictures_of_other_folders_are_left_alone(
    stored: tuple[Path, Path], tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = stored
    other = tmp_path / "photos and more"  # begins like the first one's name
    other.mkdir()
    make_picture(30).save(other / "q.png")
    encode_source(other, out, embedder, workers=0)
    (other / "q.png").unlink()
    make_picture(31).save(other / "r.png")
    assert sync(folder, out, embedder).removed == 0
    assert "q" in names(out)
    assert sync(other, out, embedder).removed == 1
    assert names(out) == ["deep/p002", "p000", "p001", "p003", "p004", "r"]


def test_a_store_inside_its_folder_is_synced_with_that_folder_alone(
    photo_folder: PhotoFolder, embedder: ClipEmbedder
) -> None:
    folder, other = photo_folder(2), photo_folder(1, "other")
    out = folder / "store"
    for pictures in (folder, other):
        encode_source(pictures, out, embedder, workers=0)
    assert names(out) == ["p000", "p000.png", "p001"]
    (other / "p000.png").unlink()
    (folder / "p001.png").unlink()
    assert sync(folder, out, embedder).removed == 1
    assert names(out) == ["p000", "p000.png"]


def test_a_folder_that_cannot_be_reached_takes_nothing_out(
    stored: tuple[Path, Path], embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = stored
    before, scandir, stat = contents(out), os.scandir, Path.stat

    def denied(path: Path) -> bool:
        return "/photos/deep/" in f"{path}/"

    def guarded(path: Path) -> object:
        if denied(path):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def guarded_stat(path: Path, **options: bool) -> os.stat_result:
        if denied(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", guarded)
        patch.setattr(Path, "stat", guarded_stat)
        result = sync(folder, out, embedder)
    assert (result.removed, [Path(path).name for path, _ in result.failures]) == (0, ["deep"])
    assert contents(out) == before
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(StoreError, match="no pictures there"):  # as where a drive is not connected
        sync(folder, out, embedder)
    assert contents(out) == before
