"""The manifest of stores of before: JSON Lines, one picture a line, appended to and never rewritten.

It is only read; what is written next goes to a `Manifest`. A later line replaces an earlier one of the same
name; ``{"name": ..., "removed": true}`` takes it out. A line without its line feed is what an interrupted
append left behind, and is ignored.
"""

from __future__ import annotations

import json
from pathlib import Path

from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.manifest import HASH_BYTES, Entry, require_inside

_TYPES = {
    "name": str,
    "source": str,
    "sha256": str,
    **dict.fromkeys(("bytes", "width", "height", "source_bytes", "source_mtime_ns"), int),
}


def read_old_manifest(path: Path) -> list[Entry]:
    """One entry per picture, in the order in which their names first appeared; none where there is no file.

    Raises:
        StoreError: the file cannot be read, a whole line is neither an entry nor a removal, or its name leads
            out of the store.
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
            name, entry = _parse(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not a manifest entry ({error})") from None
        if entry:
            entries[name] = entry
        else:
            entries.pop(name, None)
    return list(entries.values())


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
    require_inside(name)
    if removed:
        return name, None
    values = {field: record[field] for field in _TYPES}
    return name, Entry(**values | {"sha256": _shortened(record["sha256"])})


def _shortened(digest: str) -> str:
    """The part of a SHA-256 in hex that is kept; of what is none, zeros, which no stream will match."""
    try:
        return bytes.fromhex(digest)[:HASH_BYTES].hex()
    except ValueError:
        return bytes(HASH_BYTES).hex()
