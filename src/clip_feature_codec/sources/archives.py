"""Tars and Parquet files of pictures, one or many, in the order of their names."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

from clip_feature_codec.errors import StoreError
from clip_feature_codec.places import PARQUET, archive_stem, is_url, place_in, split_archive
from clip_feature_codec.sources.parquet import ParquetPart, parquet_parts
from clip_feature_codec.sources.protocol import Known
from clip_feature_codec.sources.storage import StoredFile, stat_file
from clip_feature_codec.sources.tar import TarPart


class ArchivesSource:
    """Archives of pictures.

    Args:
        name: what the source was called.
        files: the archives; their pictures' names begin with theirs, as seen from the folder that holds all.
        skipped, failures: see `protocol.Source`.
    """

    archived = True

    def __init__(
        self, name: str, files: Sequence[StoredFile], skipped: list[str], failures: list[tuple[str, str]]
    ) -> None:
        self.name, self._files = name, sorted(files)
        self.skipped, self.failures = skipped, failures
        self.root = _common_folder([file.place for file in files])
        self._exists = lru_cache(_exists)

    def parts(self, size: int, known: Known | None = None) -> Iterator[TarPart | ParquetPart]:
        """The archives, or parts of them, that are not known as they are (see `protocol.Source`)."""
        for file in self._files:
            name = archive_stem(file.place.removeprefix(place_in(self.root, "")))
            is_table = file.place.lower().endswith(PARQUET)
            for part in parquet_parts(file, name) if is_table else [TarPart(file, name)]:
                if known is None or not known.has_part(part):
                    yield part

    def holds(self, place: str, mtime_ns: int) -> bool:
        """Whether a picture's archive is still there, and what it was when the picture was read.

        Of an archive that this source does not name, whether there is such a file.
        """
        archive, name = split_archive(place)
        listed = self._times.get(same_place(archive))
        return not name or (self._exists(archive) if listed is None else listed == mtime_ns)

    @cached_property
    def _times(self) -> dict[str, int]:
        return {same_place(file.place): file.mtime_ns for file in self._files}


def _common_folder(places: Sequence[str]) -> str:
    """The folder, or the URL of one, that all of some files lie below."""
    scheme, mark, _ = places[0].partition("://")
    before = scheme + mark if mark else ""
    return before + posixpath.commonpath([posixpath.dirname(place.removeprefix(before)) for place in places])


def _exists(place: str) -> bool:
    """Whether a file is there; what cannot be reached may be."""
    try:
        stat_file(place)
    except StoreError as error:
        return not isinstance(error.__cause__, FileNotFoundError)
    return True


@lru_cache
def same_place(place: str) -> str:
    """A place in the one form that two names of a file share."""
    return place if is_url(place) else os.path.realpath(place)
