"""The manifest of a store: a table of its pictures in SQLite, whole at any moment whatever is killed.

Others read it as they read any SQLite file: the table ``pictures`` has a row for each picture, and those
with ``removed`` set are no longer in the store. Rows are found by name and by source through 64-bit keys,
so that opening a store, looking a picture up and adding one cost the same however large the store is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.catalogue import Catalogue, growing
from clip_feature_codec.store.table import PARTS, SELECT, Table

IF_MOVED = "put it back, or run clip-codec encode --sync with the folder where it is now"
"""What to do about a picture that a store does not find where it was coded."""

HASH_BYTES = 16
"""Of a stream's SHA-256, as many bytes are kept: enough to tell streams apart and to see damage."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Entry:
    """One picture of a store.

    Attributes:
        name: path of the stream inside the store, POSIX, without ``.clp``.
        source: path of the picture, POSIX, relative to the store's folder (absolute on another drive).
        sha256: the first 16 bytes of the stream's SHA-256, in hex.
        bytes: size of the stream.
        width, height: size of the upright picture, in pixels.
        source_bytes, source_mtime_ns: size and modification time of the picture's file when it was coded.
        semantic_bytes, layout_bytes: what of the stream belongs to each layer; None in the entries of
            releases that did not write it down.
        place: where the store keeps the entry; for the store alone.
    """

    name: str
    source: str
    sha256: str
    bytes: int
    width: int
    height: int
    source_bytes: int
    source_mtime_ns: int
    semantic_bytes: int | None = None
    layout_bytes: int | None = None
    place: tuple[int, int] | None = field(default=None, compare=False, repr=False)


COLUMNS = tuple(item.name for item in fields(Entry) if item.name != "place")
"""What is kept of an entry, in every kind of store."""

_INSERT = """
    INSERT INTO pictures (
        name, source, sha256, bytes, width, height, source_bytes, source_mtime_ns,
        semantic_bytes, layout_bytes, name_key, source_key, stream
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
    UPDATE pictures SET name = ?, source = ?, sha256 = ?, bytes = ?, width = ?, height = ?,
        source_bytes = ?, source_mtime_ns = ?, semantic_bytes = ?, layout_bytes = ?,
        name_key = ?, source_key = ?, stream = ?
    WHERE id = ?
"""
_SUMS = """
    SELECT count(*), total(bytes), total(semantic_bytes), total(layout_bytes), total(semantic_bytes IS NULL)
    FROM pictures WHERE NOT removed
"""
_ESCAPED = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile("\0([0-9a-f]{4})")


@dataclass(frozen=True)
class Totals:
    """Sums over the pictures of a store.

    Attributes:
        pictures: how many there are.
        bytes: of their streams.
        semantic_bytes, layout_bytes: of these, of each layer.
        unknown: how many pictures' layers are not written down; they are in ``bytes`` alone.
    """

    pictures: int = 0
    bytes: int = 0
    semantic_bytes: int = 0
    layout_bytes: int = 0
    unknown: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: Totals) -> Totals:
        return Totals(*(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


class DonePart(NamedTuple):
    """What is kept of an archive of pictures, or a part of one, that was encoded to its end.

    Attributes:
        state: what it was then; another one when its content may be another.
        pictures: how many of its pictures are in the store.
        failures: (place, reason) of those that are not.
    """

    state: str
    pictures: int
    failures: list[tuple[str, str]]


class Manifest(Table, Catalogue):
    """The table of pictures, on disk or, until something is written to it, in memory.

    Args:
        folder: the store's folder.
        path: the file.
        entries: what is in it where the file is not there; written to it with the first change.
    """

    def __init__(self, folder: Path, path: Path, entries: Sequence[Entry] = ()) -> None:
        Catalogue.__init__(self, folder)
        Table.__init__(self, path)
        if self.is_new:
            with self.transaction():
                for entry in entries:
                    self.put(entry)

    def put(self, entry: Entry, stream: bytes | None = None) -> None:
        """Add an entry, or put it in the place of the one that has its name.

        Args:
            entry: what is known of a picture.
            stream: kept with it, where the store has no other place for it.
        """
        known = self._row_named(entry.name)
        values = _to_row(entry, stream)
        if known is None:
            self._run(_INSERT, values)
        else:
            self._run(_UPDATE, [*values, known[0]])

    def append(self, entry: Entry, stream: bytes | None = None) -> None:
        """Add an entry whose name is free, without looking for it."""
        self._run(_INSERT, _to_row(entry, stream))

    def replace(self, old: Entry, new: Entry) -> None:
        """Give the entry of a picture another name, source or content, in its place."""
        known = self._row_named(old.name)
        if known is not None:
            self._run(_UPDATE, [*_to_row(new, None), known[0]])

    def remove(self, entries: Sequence[Entry]) -> None:
        """Mark entries as removed. Their rows stay until `forget`, for those who are reading them."""
        with self.transaction():
            for entry in entries:
                known = self._row_named(entry.name)
                if known is not None:
                    self._run("UPDATE pictures SET removed = 1, stream = NULL WHERE id = ?", [known[0]])

    def removed(self) -> list[Entry]:
        """What was removed and not forgotten."""
        return [entry_of_row(row) for row in self._run(SELECT + "WHERE removed")]

    def forget(self) -> None:
        """Drop the rows of what was removed."""
        self._run("DELETE FROM pictures WHERE removed")

    def named(self, name: str) -> Entry | None:
        """The entry of a name, whatever its case."""
        row = self._row_named(name)
        return None if row is None else entry_of_row(row)

    def of_source(self, source: str) -> Entry | None:
        """The entry of a picture, by its path as seen from the store."""
        rows = self._run(SELECT + "WHERE source_key = ? AND NOT removed", [text_key(source)])
        found = (entry_of_row(row) for row in rows)
        return next((entry for entry in found if entry.source == source), None)

    def after(self, entry: Entry | None) -> Iterator[Entry]:
        """The entries behind one, or all of them, in order; they are read some at a time."""
        last = entry.place[1] if entry and entry.place else 0
        sql = SELECT + "WHERE id > ? AND NOT removed ORDER BY id LIMIT ?"
        for count in growing(_ROWS_AT_ONCE):
            rows = self._run(sql, [last, count]).fetchall()
            yield from map(entry_of_row, rows)
            if len(rows) < count:
                return
            last = rows[-1][0]

    def below(self, above: str) -> list[Entry]:
        """The entries whose sources begin with a text."""
        sql = SELECT + "WHERE substr(source, 1, ?) = ? AND NOT removed ORDER BY id"
        text = to_text(above)
        return [entry_of_row(row) for row in self._run(sql, [len(text), text])]

    def part(self, key: str) -> DonePart | None:
        """What is kept of a part, by its place as seen from the store."""
        self._run(PARTS)
        sql = "SELECT state, pictures, failures FROM parts WHERE part = ?"
        row = self._run(sql, [to_text(key)]).fetchone()
        if row is None:
            return None
        return DonePart(row[0], row[1], [(place, reason) for place, reason in json.loads(row[2])])

    def keep_part(self, key: str, done: DonePart) -> None:
        """Keep that a part was encoded to its end."""
        self._run(PARTS)
        values = [to_text(key), done.state, done.pictures, json.dumps(done.failures)]
        self._run("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)", values)

    def forget_parts(self, archive: str) -> None:
        """Drop what is kept of an archive and its parts."""
        self._run(PARTS)
        text = to_text(archive)
        sql = "DELETE FROM parts WHERE part = ? OR substr(part, 1, ?) = ?"
        self._run(sql, [text, len(text) + 1, f"{text}#"])

    def totals(self) -> Totals:
        """Sums over all entries."""
        ((*sums,),) = self._run(_SUMS)
        return Totals(*map(int, sums))

    def entries(self) -> Entries:
        """All entries as they are now, in the order in which they were first put in."""
        return Entries(self, self._ids())

    def __len__(self) -> int:
        ((count,),) = self._run("SELECT count(*) FROM pictures WHERE NOT removed")
        return int(count)

    def hashes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The ids of all entries, ascending, (n,), and the hash of each, (n, 16); zeros for what is none."""
        ids: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        found = [np.zeros((0, HASH_BYTES), np.uint8)]
        rows = self._run("SELECT id, sha256 FROM pictures WHERE NOT removed ORDER BY id")
        while some := rows.fetchmany(_ROWS_AT_ONCE):
            ids.append(np.fromiter((row[0] for row in some), np.int64, len(some)))
            blobs = (row[1] if _is_hash(row[1]) else bytes(HASH_BYTES) for row in some)
            found.append(np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, HASH_BYTES))
        return np.concatenate(ids), np.concatenate(found)

    def of_ids(self, ids: Sequence[int]) -> Iterator[Entry | None]:
        """The entries of ascending ids; None for one that is not there any more."""
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            some = [int(number) for number in ids[start : start + _ROWS_AT_ONCE]]
            near = some[-1] - some[0] < 2 * len(some)
            rows = self._live(some[0], some[-1]) if near else [e for n in some for e in self._live(n, n)]
            there = {entry.place[1]: entry for entry in rows if entry.place}
            yield from (there.get(number) for number in some)

    def _live(self, first: int, last: int) -> list[Entry]:
        """The entries of the ids from ``first`` to ``last``."""
        rows = self._run(SELECT + "WHERE id BETWEEN ? AND ? AND NOT removed ORDER BY id", [first, last])
        return [entry_of_row(row) for row in rows]

    def rows(self, first: int, last: int) -> list[Entry]:
        """The entries of the ids from ``first`` to ``last``, those removed since included."""
        rows = self._run(SELECT + "WHERE id BETWEEN ? AND ? ORDER BY id", [first, last])
        return [entry_of_row(row) for row in rows]

    def _ids(self) -> Sequence[int] | NDArray[np.int64]:
        ((count, first, last),) = self._run(
            "SELECT count(*), min(id), max(id) FROM pictures WHERE NOT removed"
        )
        if not count:
            return range(0)
        if last - first + 1 == count:
            return range(first, last + 1)
        ids = self._run("SELECT id FROM pictures WHERE NOT removed ORDER BY id")
        return np.fromiter((row[0] for row in ids), np.int64, count)

    def _row_named(self, name: str) -> tuple[Any, ...] | None:
        folded = name.casefold()
        rows = self._run(SELECT + "WHERE name_key = ? AND NOT removed", [name_key(name)])
        return next((row for row in rows if from_text(row[1]).casefold() == folded), None)


class Entries(Sequence[Entry]):
    """Entries of a manifest as they were at some moment, read as they are asked for."""

    def __init__(self, manifest: Manifest, ids: Sequence[int] | NDArray[np.int64]) -> None:
        self._manifest, self._ids = manifest, ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Entries: ...
    def __getitem__(self, index: int | slice) -> Entry | Entries:
        """An entry, or some of them."""
        if isinstance(index, slice):
            return Entries(self._manifest, self._ids[index])
        wanted = int(self._ids[index])
        return self._complete(self._manifest.rows(wanted, wanted), 1)[0]

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self._ids), _ROWS_AT_ONCE):
            ids = [int(row) for row in self._ids[start : start + _ROWS_AT_ONCE]]
            if ids[-1] - ids[0] < 2 * len(ids):
                wanted = set(ids)
                rows = self._manifest.rows(ids[0], ids[-1])
                yield from self._complete([e for e in rows if e.place and e.place[1] in wanted], len(ids))
            else:  # a few from all over the store
                for row in ids:
                    yield from self._complete(self._manifest.rows(row, row), 1)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _complete(self, rows: list[Entry], count: int) -> list[Entry]:
        if len(rows) != count:
            raise StoreError(f"{self._manifest.path}: pictures were taken out while it was read: start again")
        return rows


def name_key(name: str) -> int:
    """What a name is found by, whatever its case: a signed 64-bit number."""
    return text_key(name.casefold())


def text_key(text: str) -> int:
    """What a text is found by: a signed 64-bit number that two texts hardly ever share."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def to_text(name: str) -> str:
    r"""A name as text that UTF-8 can hold: a surrogate becomes ``\0dcff``, since names have no NUL."""
    return _ESCAPED.sub(lambda found: f"\0{ord(found[0]):04x}", name)


def from_text(text: str) -> str:
    """The name that `to_text` was given."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "\0" in text else text


def require_inside(name: str) -> None:
    """Refuse a name that leads out of the store, or is none.

    Raises:
        ValueError: it does.
    """
    if name and "\0" not in name and ".." not in name and name[0] not in "/\\" and ":" not in name:
        return  # nearly all of them
    path = Path(name)
    if not name or path.anchor or ".." in path.parts or "\0" in name:
        raise ValueError(f"the name {name!r} leads out of the store")


def stream_hash(blob: bytes) -> str:
    """What `Entry.sha256` is of a stream."""
    return hashlib.sha256(blob).digest()[:HASH_BYTES].hex()


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def _to_row(entry: Entry, stream: bytes | None) -> list[Any]:
    """What `_INSERT` and `_UPDATE` take."""
    numbers = [getattr(entry, column) for column in COLUMNS[3:]]
    keys = [name_key(entry.name), text_key(entry.source)]
    return [to_text(entry.name), to_text(entry.source), bytes.fromhex(entry.sha256), *numbers, *keys, stream]


def entry_of_row(row: Sequence[Any]) -> Entry:
    """An entry from a row of `SELECT`.

    Raises:
        StoreError: its name leads out of the store, or a field is of another kind.
    """
    number, name, source, digest, *numbers, _ = row
    try:
        name = from_text(name)
        require_inside(name)
        if {*map(type, numbers[:5])} != {int}:
            raise TypeError(f"found {numbers[:5]}, expected whole numbers")
        values: list[Any] = [name, from_text(source), digest.hex(), *numbers, (-1, number)]
        return Entry(*values)
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"manifest, row {number}: not a picture ({error})") from None
