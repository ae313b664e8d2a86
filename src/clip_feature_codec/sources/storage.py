"""Files on object storage, and wherever else fsspec gets at by a URL; and local ones under the same names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from clip_feature_codec.errors import StoreError, reason
from clip_feature_codec.extras import extra
from clip_feature_codec.places import is_url

_BLOCK = 8 << 20  # bytes of one request, while an archive is read from its beginning to its end
_MODIFIED = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "created")
"""What kinds of storage call the time at which a file was last written."""
_SECOND = 10**9


class StoredFile(NamedTuple):
    """A file as a listing shows it.

    Attributes:
        place: a path or a URL.
        bytes: its size.
        mtime_ns: see `protocol.SourcePicture`.
    """

    place: str
    bytes: int
    mtime_ns: int


def stat_file(place: str) -> StoredFile:
    """What is known of one file.

    Raises:
        StoreError: there is none, or it cannot be reached.
    """
    if not is_url(place):
        with _reported(place):
            status = Path(place).stat()
        return StoredFile(place, status.st_size, status.st_mtime_ns)
    with _reported(place):
        storage, path = _storage(place)
        info = storage.info(path)
        if info["type"] != "file":
            raise FileNotFoundError(None, "not a file")
        return _stored(place, info)


def list_files(url: str) -> Iterator[StoredFile]:
    """All files below a URL; hidden ones, and folders of that kind, are left out.

    Raises:
        StoreError: it cannot be reached.
    """
    with _reported(url):
        storage, root = _storage(url)
        for folder, folders, files in storage.walk(root, detail=True):
            for name in [name for name in folders if name.startswith(".")]:
                del folders[name]
            for name, info in files.items():
                if name and not name.startswith("."):
                    place = storage.unstrip_protocol(f"{folder}/{name}" if folder else name)
                    yield _stored(place, info)
            storage.invalidate_cache(folder)  # or all listings stay in memory


def glob_files(url: str) -> list[StoredFile]:
    """The files that a URL with ``*``, ``?`` or ``[...]`` means, sorted.

    Raises:
        StoreError: the storage cannot be reached.
    """
    with _reported(url):
        storage, pattern = _storage(url)
        found = storage.glob(pattern, detail=True)
        places = {storage.unstrip_protocol(path): info for path, info in found.items()}
        return [_stored(place, info) for place, info in sorted(places.items()) if info["type"] == "file"]


def read_files(urls: Sequence[str]) -> list[bytes | Exception]:
    """The content of some files of one storage, fetched at once; an error in the place of what cannot be."""
    try:
        storage, _ = _storage(urls[0])
        paths = [storage._strip_protocol(url) for url in urls]
        # Not ``cat``, which takes names with brackets for patterns.
        return list(storage.cat_ranges(paths, None, None, on_error="return"))
    except Exception as error:  # whatever a library of some provider raises  # noqa: BLE001
        return [error for _ in urls]


def full_url(url: str) -> str:
    """A URL as listings give it.

    Raises:
        StoreError: nothing here knows its kind.
    """
    storage, path = _storage(url)
    return str(storage.unstrip_protocol(path))


@contextmanager
def open_file(place: str) -> Iterator[BinaryIO]:
    """Open a file, here or elsewhere, to be read from its beginning. Raises what its storage raises."""
    if not is_url(place):
        with Path(place).open("rb") as file:
            yield file
        return
    storage, path = _storage(place)
    with storage.open(path, "rb", block_size=_BLOCK, cache_type="readahead") as file:
        yield cast(BinaryIO, file)


def why(error: BaseException) -> str:
    """What is wrong, in the words of whoever noticed it, on one line."""
    text = reason(error) if isinstance(error, Exception) else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _reported(place: str) -> Iterator[None]:
    """Say what cannot be read: each provider's library has errors of its own."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(f"{place}: cannot be read: {why(error)}") from error


def _storage(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        MissingExtraError: fsspec is not installed.
        StoreError: there is no such file system, or it needs a package that is not installed.
    """
    with extra("remote", "object storage"):
        from fsspec.core import url_to_fs
    try:
        # A listing is made to see what is there now.
        storage, path = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise StoreError(f"{url}: {why(error)}") from None
    return storage, path


def _stored(place: str, info: dict[str, Any]) -> StoredFile:
    """Time to the second, as storage tells it; below that, what an ETag says: writes may share a second."""
    modified = next((info[key] for key in _MODIFIED if info.get(key)), 0.0)
    if isinstance(modified, str):
        modified = _from_text(modified)
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    mtime_ns = int(seconds * _SECOND)
    tag = info.get("ETag") or info.get("etag")
    if tag:
        number = int.from_bytes(hashlib.blake2b(str(tag).encode(), digest_size=8).digest(), "little")
        mtime_ns += number % _SECOND - mtime_ns % _SECOND
    return StoredFile(place, info["size"] or 0, mtime_ns)


def _from_text(modified: str) -> datetime:
    """A time as storage (ISO 8601) or a web server (RFC 5322) writes it."""
    try:
        return datetime.fromisoformat(modified)
    except ValueError:
        return parsedate_to_datetime(modified)
