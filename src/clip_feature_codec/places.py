"""Where a picture is, as text: a path, a URL of object storage, or either of an archive and a name in it.

    photos/a.jpg    s3://bucket/photos/a.jpg    shards/00000.tar/000012.jpg    https://host/x.parquet/00000012.jpg

It is what `Entry.source` holds of a picture, there as seen from the store where it is a path.
"""

from __future__ import annotations

import re

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""What the names of tars end in, in lower case."""
PARQUET = (".parquet",)
"""What those of Parquet files end in."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters at least: C:// is a drive
_ARCHIVE = re.compile(rf"(?:{'|'.join(map(re.escape, TARS + PARQUET))})(?=/)", re.IGNORECASE)


def is_url(place: str) -> bool:
    """Whether a place is on object storage, or wherever else fsspec gets at by a URL."""
    return _URL.match(place) is not None


def is_archive(place: str) -> bool:
    """Whether a place is called like a tar or a Parquet file."""
    return place.lower().endswith(TARS + PARQUET)


def split_archive(place: str) -> tuple[str, str]:
    """An archive and the name in it, of a place of that form; of another, the place and no name."""
    found = _ARCHIVE.search(place.replace("\\", "/"))
    return (place, "") if found is None else (place[: found.end()], place[found.end() + 1 :])


def archive_stem(place: str) -> str:
    """An archive's place without its ending."""
    ending = next((ending for ending in TARS + PARQUET if place.lower().endswith(ending)), "")
    return place[: len(place) - len(ending)]


def place_in(folder: str, name: str) -> str:
    """The place of a name in a folder or an archive."""
    if folder in ("", "."):
        return name
    return f"{folder}{'' if folder.endswith('/') else '/'}{name}"


def safe_name(name: str) -> str:
    """A name in an archive as one that leads nowhere else, or nothing: ``/a/../../b.jpg`` is ``a/b.jpg``."""
    parts = name.replace("\\", "/").replace("\0", "").split("/")
    return "/".join(part for part in parts if part.strip(". "))
