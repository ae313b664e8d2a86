"""What is found in a folder of pictures, and what is said of the rest."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clip_feature_codec.sources import folder as module
from clip_feature_codec.sources.folder import count_kinds, scan_folder
from samples import make_picture


def fill(folder: Path, *names: str) -> None:
    """Files that are called like pictures: a scan does not look into those."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def picture_bytes(kind: str) -> bytes:
    encoded = io.BytesIO()
    make_picture(1).save(encoded, kind)
    return encoded.getvalue()


def test_pictures_are_known_by_content_where_the_name_does_not_tell(tmp_path: Path) -> None:
    """Fault 5: files of another ending, or of none, vanished without a word."""
    for name, kind in {
        "IMG_0001": "JPEG",
        "shared.jpg_large": "JPEG",
        "scan.dat": "TIFF",
        "deep/download": "WEBP",
        "photo.txt": "PNG",
        "wrong.jpg": "PNG",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture_bytes(kind))
    fill(tmp_path, "a.HEIC", "b.jxl", "c.heif")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")  # opening it would take for ever
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    scan = scan_folder(tmp_path)
    assert scan.pictures == [
        *("IMG_0001", "a.HEIC", "b.jxl", "c.heif", "deep/download", "photo.txt"),
        *("scan.dat", "shared.jpg_large", "wrong.jpg"),
    ]
    assert scan.skipped == ["dangling", "empty", "film.mp4", "notes.txt", "pipe"]
    assert scan.failures == []


def test_names_that_tell_are_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(module, "picture_kind", lambda path: looked_at.append(path.name))
    fill(tmp_path, "a.jpg", "b.TIFF", "c.heic", "d.mov", "jpg")
    assert scan_folder(tmp_path).pictures == ["a.jpg", "b.TIFF", "c.heic"]
    assert sorted(looked_at) == ["d.mov", "jpg"]


def test_hidden_files_and_folders_and_the_store_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", ".b.jpg", ".thumbnails/c.jpg", "store/d.jpg", "store/notes.txt", "stores/e.jpg")
    scan = scan_folder(tmp_path, leave_out=tmp_path / "store")
    assert (scan.pictures, scan.skipped) == (["a.jpg", "stores/e.jpg"], [])
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    assert scan_folder(tmp_path, leave_out=tmp_path / "alias").pictures == scan.pictures
    assert scan_folder(tmp_path, leave_out=tmp_path / "not yet there").skipped == ["store/notes.txt"]


def test_linked_folders_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    """Fault 21: they were passed over without a word."""
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    fill(photos, "a.jpg", "real/b.jpg")
    fill(elsewhere, "c.jpg", "deep/d.jpg")
    (photos / "album").symlink_to(elsewhere)
    (photos / "album again").symlink_to(elsewhere)
    (photos / "0 real").symlink_to(photos / "real")  # has a name of its own here
    (photos / "real" / "up").symlink_to(photos)
    (photos / "all").symlink_to(tmp_path)
    (elsewhere / "deep" / "round").symlink_to(elsewhere)
    (photos / "itself").symlink_to(photos / "itself")
    (photos / "linked.jpg").symlink_to(photos / "a.jpg")
    scan = scan_folder(photos)
    assert scan.pictures == ["a.jpg", "album/c.jpg", "album/deep/d.jpg", "linked.jpg", "real/b.jpg"]
    assert scan.skipped == ["all", "real/up"]
    assert [path for path, _ in scan.failures] == [str(photos / "itself")]


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``locked`` that may not be read, not even by root, and a file ``secret``."""
    fill(tmp_path, "a.jpg", "locked/b.jpg", "open/c.jpg", "secret")
    scandir, kind = os.scandir, module.picture_kind

    def guarded(path: Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def guarded_kind(path: Path) -> str | None:
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return kind(path)

    monkeypatch.setattr(os, "scandir", guarded)
    monkeypatch.setattr(module, "picture_kind", guarded_kind)
    return tmp_path


def test_what_may_not_be_read_is_listed(locked: Path) -> None:
    """Fault 21: a folder of mode 000 was passed over."""
    scan = scan_folder(locked)
    assert scan.pictures == ["a.jpg", "open/c.jpg"]
    assert scan.failures == [
        (str(locked / name), f"{locked / name}: cannot be read: Permission denied")
        for name in ("locked", "secret")
    ]


def test_kinds_are_counted_the_most_frequent_first() -> None:
    assert count_kinds(["a.mov", "b.txt", "c.TXT", "d/e", "f.txt"]) == "3 .txt, 1 .mov, 1 without an ending"
    assert count_kinds([f"{i}.{i:03}" for i in range(12)]).endswith(", 1 .007, 4 others")
    assert count_kinds([]) == ""
