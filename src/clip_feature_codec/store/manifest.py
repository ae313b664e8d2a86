"""The manifest of a store: JSON Lines, one picture a line, appended to and never rewritten.

A later line replaces an earlier one of the same name. A line without its line feed is what an interrupted
append leaves behind: it is ignored, and cut off by the next append.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from clip_feature_codec.errors import StoreError

IF_MOVED = "put it back, or run clip-codec encode --sync with the folder where it is now"
"""What to do about a picture that a store does not find where it was coded."""


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
        StoreError: the file cannot be read, a whole line is not an entry, or its name leads out of the store.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = _parse(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not a manifest entry ({error})") from None
        entries[entry.name] = entry
    return list(entries.values())


def _parse(line: bytes) -> Entry:
    """One line; fields of later versions are passed over. Raises ValueError."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__}, expected an object")
    for name, kind in _TYPES.items():
        if type(record.get(name)) is not kind:
            raise ValueError(f"{name}: found {record.get(name)!r}, expected {kind.__name__}")
    entry = Entry(*(record[name] for name in _TYPES))
    path = Path(entry.name)
    if not entry.name or path.anchor or ".." in path.parts or "\0" in entry.name:
        raise ValueError(f"the name {entry.name!r} leads out of the store")
    return entry


def append_to_manifest(path: Path, entries: Sequence[Entry]) -> None:
    """Add entries at the end, after cutting off what an interrupted append left there."""
    lines = "".join(json.dumps(vars(entry)) + "\n" for entry in entries)
    with path.open("ab+") as file:
        file.truncate(_whole_lines(path))
        file.write(lines.encode())


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
