"""Pictures that are files of their own: in a folder, or below a URL."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from clip_feature_codec.places import is_url, place_in, split_archive
from clip_feature_codec.sources.protocol import Known, Notes, SourcePicture

File = tuple[str, int, int]
"""Name inside the source, size, and modification time in nanoseconds."""


@dataclass(frozen=True)
class FilesPart:
    """Some files of a folder.

    Attributes:
        root: the folder, or its URL.
        files: in order.
    """

    root: str
    files: tuple[File, ...]

    @property
    def key(self) -> str:
        """Which files these are."""
        return place_in(self.root, _digest([name for name, _, _ in self.files]))

    @property
    def state(self) -> str:
        """Their sizes and times."""
        return _digest([numbers for _, *numbers in self.files])

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.files)

    def pictures(self, notes: Notes) -> Iterator[SourcePicture]:
        """The pictures, in order."""
        return (SourcePicture(name, place_in(self.root, name), size, time) for name, size, time in self.files)


class FilesSource:
    """Files of a folder, or below a URL, that were found to be pictures.

    Args:
        name: what the source was called.
        root: the folder or URL.
        files: what lies there; of a folder names alone, whose sizes and times are looked up when asked for.
        skipped, failures: see `protocol.Source`.
    """

    archived = False

    def __init__(
        self,
        name: str,
        root: str,
        files: Sequence[str] | Sequence[File],
        skipped: list[str],
        failures: list[tuple[str, str]],
    ) -> None:
        self.name, self.root, self._files = name, root, files
        self.skipped, self.failures = skipped, failures

    @property
    def names(self) -> list[str]:
        """The pictures' names, in order."""
        return [file if isinstance(file, str) else file[0] for file in self._files]

    def parts(self, size: int, known: Known | None = None) -> Iterator[FilesPart]:
        """Files that are not known yet, ``size`` of them at a time (see `protocol.Source`)."""
        listed = map(self._at, self._files)
        wanted = listed if known is None else known.unknown(listed)
        while part := tuple((found.name, found.size, found.mtime_ns) for found in islice(wanted, size)):
            yield FilesPart(self.root, part)

    def holds(self, place: str, mtime_ns: int) -> bool:
        """Whether a file is still there."""
        if not is_url(self.root):
            return Path(place).exists()
        if split_archive(place)[1]:  # it came from another source
            return True
        return place.removeprefix(place_in(self.root, "")) in self._there

    @cached_property
    def _there(self) -> set[str]:
        return set(self.names)

    def _at(self, file: str | File) -> SourcePicture:
        if not isinstance(file, str):
            name, size, mtime_ns = file
            return SourcePicture(name, place_in(self.root, name), size, mtime_ns)
        place = place_in(self.root, file)
        try:
            status = os.stat(place)  # noqa: PTH116 (to make a path of it takes longer than to look)
        except OSError:  # whoever reads it says so
            return SourcePicture(file, place, 0, 0)
        return SourcePicture(file, place, status.st_size, status.st_mtime_ns)


def _digest(values: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:32]
