"""From what a person has written to a source: a folder, tars, Parquet files, here or on object storage."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from clip_feature_codec.errors import StoreError
from clip_feature_codec.images.formats import READ_SUFFIXES
from clip_feature_codec.names import SHARDS, SHARDS_FOLDER
from clip_feature_codec.places import PARQUET, TARS, is_archive, is_url, place_in
from clip_feature_codec.sources.archives import ArchivesSource
from clip_feature_codec.sources.files import FilesSource
from clip_feature_codec.sources.folder import count_kinds, scan_folder
from clip_feature_codec.sources.patterns import expand_braces, is_glob, is_pattern
from clip_feature_codec.sources.protocol import Source
from clip_feature_codec.sources.storage import StoredFile, full_url, glob_files, list_files, stat_file

_ARCHIVES = f"{' '.join(TARS)} or {' '.join(PARQUET)}"


def open_source(name: str, leave_out: Path | None = None) -> Source:
    """List the source that a name means.

    Args:
        name: a folder; a tar or a Parquet file; several by ``*``, ``?``, ``[...]``, ``{000..099}`` or
            ``{a,b}``; or a folder that holds such files and no pictures. A path, or a URL of fsspec's
            (``s3://bucket/x/``).
        leave_out: a folder that is passed over, should it lie inside.

    Raises:
        StoreError: there is no such thing, or no picture in it.
        MissingExtraError: it needs packages of an extra.
    """
    there = not is_url(name) and Path(name).exists()
    if is_pattern(name) and not there:
        return _archives(name, _expanded(name))
    if is_archive(name) and not Path(name).is_dir():
        return _archives(name, [name])
    if is_url(name):
        return _below_url(name)
    return _folder(name, leave_out)


def _folder(name: str, leave_out: Path | None) -> Source:
    folder = Path(name)
    if not folder.is_dir():
        raise StoreError(f"{name} is not a folder of pictures")
    scan = scan_folder(folder, leave_out)
    found = FilesSource(name, str(folder), scan.pictures, scan.skipped, scan.failures)
    return _archives_instead(found, [inside for inside in scan.skipped if is_archive(inside)])


def _below_url(name: str) -> Source:
    root = full_url(name)
    files = sorted(list_files(root))
    if not files:
        raise StoreError(f"{name}: nothing there, or no such place")
    inside = [(file.place.removeprefix(place_in(root, "")), file.bytes, file.mtime_ns) for file in files]
    # By name alone: to look into each file would be a request each.
    pictures = [file for file in inside if PurePosixPath(file[0]).suffix.lower() in READ_SUFFIXES]
    skipped = [file[0] for file in inside if PurePosixPath(file[0]).suffix.lower() not in READ_SUFFIXES]
    found = FilesSource(name, root, pictures, skipped, [])
    return _archives_instead(found, [inside for inside in skipped if is_archive(inside)])


def _archives_instead(found: FilesSource, archives: Sequence[str]) -> Source:
    """What was found in a folder; if that is no picture, the archives there, but for the shards of stores.

    Raises:
        StoreError: there are none either.
    """
    if found.names:
        return found
    archives = [inside for inside in archives if not PurePosixPath(inside).match(f"{SHARDS_FOLDER}/{SHARDS}")]
    if archives:
        others = sorted({*found.skipped} - {*archives})
        places = [place_in(found.root, inside) for inside in archives]
        return _archives(found.name, places, others, found.failures)
    if found.failures:
        raise StoreError(f"{found.name}: no pictures there; {found.failures[0][1]}")
    seen = f"found {count_kinds(found.skipped)}, " if found.skipped else ""
    expected = f"expected {' '.join(sorted(READ_SUFFIXES))}"
    raise StoreError(f"{found.name}: no pictures there ({seen}{expected}, or {_ARCHIVES})")


def _archives(
    name: str,
    places: Sequence[str],
    skipped: Sequence[str] = (),
    failures: Sequence[tuple[str, str]] = (),
) -> ArchivesSource:
    """Archives as a source; one that is missing among others is a failure.

    Raises:
        StoreError: none is there.
    """
    files: list[StoredFile] = []
    problems = list(failures)
    for place in dict.fromkeys(place if is_url(place) else str(Path(place)) for place in places):
        try:
            files.append(stat_file(place))
        except StoreError as error:
            problems.append((place, str(error)))
    if not files:
        raise StoreError(problems[0][1] if problems else f"{name}: no file is called so")
    return ArchivesSource(name, files, list(skipped), problems)


def _expanded(name: str) -> list[str]:
    """The archives that a pattern means.

    Raises:
        StoreError: it means files of another kind, or too many.
    """
    try:
        names = list(expand_braces(name))
    except ValueError as error:
        raise StoreError(f"{name}: {error}") from None
    places: list[str] = []
    for one in names:
        if not is_glob(one):
            places.append(full_url(one) if is_url(one) else one)
        elif is_url(one):
            places += [file.place for file in glob_files(one)]
        else:
            places += sorted(filter(os.path.isfile, glob.glob(one, recursive=True)))  # noqa: PTH207
    others = [place for place in places if not is_archive(place)]
    if others:
        raise StoreError(f"{name}: a pattern names archives ({_ARCHIVES}), and {others[0]} is none")
    return places
