"""The manifest of a store: JSON Lines, one picture a line, appended to and never rewritten.

A later line replaces an earlier one of the same name; ``{"name": ..., "removed": true}`` takes it out. A line
without its line feed is what an interrupted append leaves behind: it is ignored, and cut off by the next
append. So whoever reads while another writes sees the store as it was at some moment.
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


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        entries: one per picture, in the order in which their names first appeared.
        removed: those that were taken out and whose names did not come back.
    """

    entries: list[Entry]
    removed: list[Entry]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; one that is not there is empty.

    Raises:
        StoreError: the file cannot be read, a whole line is neither an entry nor a removal, or its name leads
            out of the store.
    """
    if not path.exists():
        return Manifest([], [])
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    entries: dict[str, Entry] = {}
    removed: dict[str, Entry] = {}
    for number, line in enumerate(lines[:-1], start=1):
        try:
            name, entry = _parse(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not a manifest entry ({error})") from None
        if entry:
            entries[name] = entry
            removed.pop(name, None)
        elif name in entries:
            removed[name] = entries.pop(name)
    return Manifest(list(entries.values()), list(removed.values()))


def _parse(line: bytes) -> tuple[str, Entry | None]:
    """One line: a name, and its entry or None where it is removed.

    Fields of later versions are passed over. Raises ValueError.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__}, expected an object")
    removed = record.get("removed") is True
    for field, kind in (("name", str),) if removed else _TYPES.items():
        if type(record.get(field)) is not kind:
            raise ValueError(f"{field}: found {record.get(field)!r}, expected {kind.__name__}")
    name: str = record["name"]
    path = Path(name)
    if not name or path.anchor or ".." in path.parts or "\0" in name:
        raise ValueError(f"the name {name!r} leads out of the store")
    return name, None if removed else Entry(*(record[field] for field in _TYPES))


def append_to_manifest(path: Path, entries: Sequence[Entry] = (), removed: Sequence[str] = ()) -> None:
    """Add entries at the end, and then the names that are taken out.

    What an interrupted append has left there is cut off before.
    """
    records = [vars(entry) for entry in entries]
    records += [{"name": name, "removed": True} for name in removed]
    lines = "".join(json.dumps(record) + "\n" for record in records)
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
