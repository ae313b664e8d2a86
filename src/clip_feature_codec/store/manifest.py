"""The manifest of a store: JSON Lines, one picture a line, appended to and never rewritten.

A later line replaces an earlier one of the same name. A line without its line feed is what an interrupted
append leaves behind: it is ignored, and cut off by the next append.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from clip_feature_codec.errors import StoreError


@dataclass(frozen=True)
class Entry:
    """One picture of a store.

    Attributes:
        name: path of the stream inside the store, POSIX, without ``.clp``.
        source: path of the picture, POSIX, relative to the store's folder (absolute on another drive).
        sha256: SHA-256 of the stream, in hex.
        bytes: size of the stream.
        width, height: size of the upright picture, in pixels.
        source_bytes, source_mtime_ns: size and modification time of the picture's file when it was coded.
    """

    name: str
    source: str
    sha256: str
    bytes: int
    width: int
    height: int
    source_bytes: int
    source_mtime_ns: int


_TYPES = {field.name: str if field.type == "str" else int for field in fields(Entry)}


def read_manifest(path: Path) -> list[Entry]:
    """Read all entries, in the order in which their names first appeared.

    Raises:
        StoreError: a whole line is not an entry, or its name leads out of the store.
    """
    if not path.exists():
        return []
    entries: dict[str, Entry] = {}
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            record = json.loads(line)
            entry = Entry(**record)
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path}, line {number}: not a manifest entry ({error})") from None
        if any(type(record[name]) is not kind for name, kind in _TYPES.items()):
            raise StoreError(f"{path}, line {number}: a field has the wrong type")
        if Path(entry.name).is_absolute() or ".." in Path(entry.name).parts:
            raise StoreError(f"{path}, line {number}: the name {entry.name!r} leads out of the store")
        entries[entry.name] = entry
    return list(entries.values())


def append_to_manifest(path: Path, entries: Sequence[Entry]) -> None:
    """Add entries at the end and wait until they are on the disk."""
    lines = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    with path.open("ab+") as file:
        file.truncate(_whole_lines(path))
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(path: Path) -> int:
    """Length of the file up to its last line feed, found from the end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                return start + cut + 1
            end = start
    return 0
