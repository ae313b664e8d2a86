"""The pictures of a folder and of all below it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clip_feature_codec.images import READ_SUFFIXES, picture_kind

_KINDS_NAMED = 8


@dataclass(frozen=True)
class FolderScan:
    """What there is below a folder, hidden files and folders left out.

    Attributes:
        pictures: paths inside the folder, POSIX, sorted.
        skipped: likewise, of files that are no pictures and of links to a folder that the scan is in.
        failures: (path, reason) of files and folders that may not be read.
    """

    pictures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def scan_folder(folder: Path, leave_out: Path | None = None) -> FolderScan:
    """Find the pictures below a folder.

    A file that is called like a picture counts as one without being opened, since whoever reads it goes by
    its content anyway; any other is looked into for the first bytes of a picture (20 µs each, where listing
    takes 2).

    Links to files and folders are followed. A folder that is reached in several ways is read once, and under
    its own name where it has one here; links to the folder itself and to those above it are not followed.

    Args:
        folder: searched recursively.
        leave_out: a folder that is passed over, should it lie inside.
    """
    scan = _Scan(folder, leave_out)
    scan.run()
    return FolderScan(sorted(scan.found.pictures), sorted(scan.found.skipped), sorted(scan.found.failures))


def count_kinds(names: Sequence[str]) -> str:
    """Count files by the endings of their names, the most frequent first: ``3 .txt, 1 .mov``."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without an ending" for name in names)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} {kind}" for kind, count in ordered[:_KINDS_NAMED]]
    others = sum(count for _, count in ordered[_KINDS_NAMED:])
    return ", ".join(named + [f"{others} others"] * (others > 0))


class _Scan:
    def __init__(self, folder: Path, leave_out: Path | None) -> None:
        self.found = FolderScan()
        self._folder = folder
        self._real_folder = folder.resolve()
        self._seen = {_identity(leave_out)} if leave_out and leave_out.is_dir() else set()
        self._subfolders = [""]
        self._links: list[str] = []

    def run(self) -> None:
        while self._subfolders or self._links:
            # Links come last, so that what they lead to has its own name where it is here anyway.
            inside = self._subfolders.pop() if self._subfolders else self._links.pop(0)
            try:
                self._read(inside)
            except OSError as error:
                self._fail(inside, error)

    def _read(self, inside: str) -> None:
        path = self._folder / inside
        identity = _identity(path)
        if identity in self._seen:
            return
        self._seen.add(identity)
        links = []
        with os.scandir(path) as items:
            for item in items:
                if item.name.startswith("."):
                    continue
                name = f"{inside}/{item.name}" if inside else item.name
                try:
                    if item.is_dir(follow_symlinks=False):
                        self._subfolders.append(name)
                    elif item.is_dir():
                        links.append(name)
                    else:
                        self._sort(name, item)
                except OSError as error:
                    self._fail(name, error)
        for name in sorted(links):
            target = (self._folder / name).resolve()
            (self.found.skipped if self._real_folder.is_relative_to(target) else self._links).append(name)

    def _sort(self, name: str, item: os.DirEntry[str]) -> None:
        _, dot, ending = item.name.rpartition(".")
        # Only a regular file is opened: a pipe would block for ever.
        if dot + ending.lower() in READ_SUFFIXES or (item.is_file() and picture_kind(Path(item.path))):
            self.found.pictures.append(name)
        else:
            self.found.skipped.append(name)

    def _fail(self, inside: str, error: OSError) -> None:
        path = self._folder / inside
        self.found.failures.append((str(path), f"{path}: cannot be read: {error.strerror}"))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
