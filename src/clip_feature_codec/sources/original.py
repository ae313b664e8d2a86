"""A picture as it was encoded, read from where its entry says that it is."""

from __future__ import annotations

import tarfile
from functools import lru_cache
from pathlib import Path

from clip_feature_codec.errors import ImageError
from clip_feature_codec.places import PARQUET, is_url, safe_name, split_archive
from clip_feature_codec.sources.parquet import read_row
from clip_feature_codec.sources.storage import open_file, read_files, stat_file, why
from clip_feature_codec.sources.tar import members


def read_original(place: str, most: int | None = None) -> Path | bytes:
    """A picture's file: its path, or its content where that is on object storage or in an archive.

    Of a local tar, the table of what lies where is kept, so that the next one is read at once; a compressed
    tar, or one that is elsewhere, is read up to the picture.

    Args:
        place: see `places`.
        most: bytes that a picture in a tar may have.

    Raises:
        ImageError: it is not there any more, or cannot be read.
    """
    archive, name = split_archive(place)
    if not name or (not is_url(archive) and Path(archive).is_dir()):
        return _file(place) if is_url(place) else Path(place)
    try:
        found = read_row(archive, name) if archive.lower().endswith(PARQUET) else _member(archive, name, most)
    except Exception as error:  # damage, or whatever a library of some provider raises
        raise ImageError(f"{place}: cannot be read: {why(error)}") from error
    if found is None:
        raise ImageError(f"{place}: the picture is not in its archive any more")
    return found


def _file(url: str) -> bytes:
    (found,) = read_files([url])
    if isinstance(found, Exception):
        raise ImageError(f"{url}: cannot be read: {why(found)}") from found
    return found


def _member(archive: str, name: str, most: int | None) -> bytes | None:
    if not is_url(archive) and archive.lower().endswith(".tar"):
        where = _table(archive, stat_file(archive).mtime_ns).get(name)
        if where is None or (most is not None and where[1] > most):
            return None
        with open_file(archive) as file:
            file.seek(where[0])
            return file.read(where[1])
    fits = (stream for inside, size, stream in members(archive) if inside == name and size <= (most or size))
    return next((stream.read() for stream in fits), None)


@lru_cache(maxsize=8)
def _table(archive: str, mtime_ns: int) -> dict[str, tuple[int, int]]:
    """Where each file of a tar begins, and its size, by its safe name; of two of one name, the first."""
    table: dict[str, tuple[int, int]] = {}
    with tarfile.open(archive, "r:") as tar:
        try:
            for member in tar:
                if member.isreg():
                    table.setdefault(safe_name(member.name), (member.offset_data, member.size))
                tar.members = []  # type: ignore[attr-defined]
        except tarfile.TarError:  # what comes before a damaged place is whole
            pass
    return table
