"""A commit in the hub's cache, as huggingface_hub lays it out, and a record of what was found of its files.

The record is kept beside the files: for runs without a connection, and so that files are hashed once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clip_feature_codec.files import write_atomic

_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256_DIGITS = 64
_BLOCK = 1 << 20


class RemoteFile(NamedTuple):
    """What the hub says of a file: its size in bytes, and its SHA-256 or git's SHA-1 in hex."""

    size: int
    digest: str


class Record(NamedTuple):
    """What is kept of a commit: what the hub said of it, and when each file was written that was checked."""

    files: Mapping[str, RemoteFile]
    checked: Mapping[str, int]


@dataclass(frozen=True)
class CachedCommit:
    """Where a commit's files are, once they are downloaded.

    Attributes:
        cache: the hub's cache, a folder.
        name: ``user/name``.
        commit: 40 hex digits.
    """

    cache: Path
    name: str
    commit: str

    @classmethod
    def find(cls, cache: Path, name: str, revision: str) -> CachedCommit | None:
        """The commit that a revision was when it was asked for last; None where it never was."""
        if _COMMIT.fullmatch(revision):
            return cls(cache, name, revision)
        try:
            commit = cls(cache, name, "")._ref(revision).read_text("utf-8").strip()
        except OSError:
            return None
        return cls(cache, name, commit)

    @property
    def folder(self) -> Path:
        """Its files by their names."""
        return self._storage / "snapshots" / self.commit

    def holds(self, digest: str) -> bool:
        """Whether there is a file of this hash already, perhaps from another commit."""
        return (self._storage / "blobs" / digest).is_file()

    def record(self) -> Record | None:
        """What is known of it, where anything is."""
        record = self.own_record()
        if record is None and self.folder.is_dir():  # another program has downloaded it
            paths = [path for path in self.folder.rglob("*") if path.is_file()]
            known = {path.relative_to(self.folder).as_posix(): _named_by_digest(path) for path in paths}
            record = Record(known, {})
        return record

    def own_record(self) -> Record | None:
        """What this program has written down; None where that is nothing, or cannot be read."""
        try:
            data = json.loads(self._record_file.read_bytes())
            files = {
                name: RemoteFile(int(size), str(digest)) for name, (size, digest) in data["files"].items()
            }
            return Record(files, {name: int(stamp) for name, stamp in data["checked"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def note(self, record: Record, revision: str) -> None:
        """Keep what was found, and what commit the revision is: asked by commit, the client does not."""
        with suppress(OSError):  # in a cache that cannot be written, files are hashed each time
            write_atomic(self._record_file, json.dumps(record._asdict()).encode())
            if revision != self.commit:
                write_atomic(self._ref(revision), self.commit.encode())

    @property
    def _storage(self) -> Path:
        from huggingface_hub.file_download import repo_folder_name

        return self.cache / repo_folder_name(repo_id=self.name, repo_type="model")

    @property
    def _record_file(self) -> Path:
        return self._storage / "checked" / f"{self.commit}.json"

    def _ref(self, revision: str) -> Path:
        return self._storage / "refs" / revision


def digest_of(path: Path, digits: int) -> str:
    """SHA-256 of a file, or what git calls it by, by the number of hex digits that are wanted."""
    if digits == _SHA256_DIGITS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _named_by_digest(path: Path) -> RemoteFile:
    """A file in the cache: a link to one that is called by its hash, but on Windows."""
    real = path.resolve()
    return RemoteFile(real.stat().st_size, real.name if re.fullmatch("[0-9a-f]{40,64}", real.name) else "")
