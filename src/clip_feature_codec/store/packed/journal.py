"""What a packed store knows beside its shards: which these are, what is gone from them, what waits for one.

All of it is one SQLite file, so that shards are exchanged, and what was waiting for them is let go, in one
transaction. Without the file, the shards in the folder are the store.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clip_feature_codec.names import PACKED_FILE, SHARDS, SHARDS_FOLDER
from clip_feature_codec.store.manifest import Entry, Manifest, entry_of_row
from clip_feature_codec.store.table import SELECT

_TABLES = """
    CREATE TABLE IF NOT EXISTS shards (name TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS dropped (shard TEXT NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (shard, row));
"""
_SHARD = re.compile(r"streams-(\d{5,})(?:-r(\d+))?\.parquet")


class Journal(Manifest):
    """The table of what is not sealed yet, with its streams, and the list of the shards.

    Args:
        folder: the store's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder / PACKED_FILE)
        self._shards_folder = folder / SHARDS_FOLDER

    def shards(self) -> list[str]:
        """The names of the shards, in order."""
        names = [row[0] for row in self._run("SELECT name FROM shards")]
        if self.is_new:
            names = [path.name for path in self._shards_folder.glob(SHARDS)]
        return sorted(names, key=place_of)

    def dropped(self) -> dict[str, set[int]]:
        """The rows that are no longer in the store, by shard."""
        found: defaultdict[str, set[int]] = defaultdict(set)
        for shard, row in self._run("SELECT shard, row FROM dropped"):
            found[shard].add(row)
        return dict(found)

    def drop(self, shard: str, row: int) -> None:
        """Take a row out of a shard; the file stays as it is until it is written again."""
        self._run("INSERT OR IGNORE INTO dropped VALUES (?, ?)", [shard, row])

    def stream(self, row: int) -> bytes | None:
        """The stream of an entry that is not sealed, by its id; None where it is by now."""
        found = self._run("SELECT stream FROM pictures WHERE id = ?", [row]).fetchone()
        return None if found is None else found[0]

    def waiting(self) -> Iterator[tuple[Entry, bytes]]:
        """All entries that are not sealed, with their streams."""
        return ((entry_of_row(row), row[-1]) for row in self._run(SELECT + "WHERE NOT removed ORDER BY id"))

    def span(self) -> int:
        """How many entries wait at most, those taken out again included: told without counting them."""
        # Either by itself is found at once; both in one SELECT would read the whole table.
        ((first, last),) = self._run("SELECT (SELECT min(id) FROM pictures), (SELECT max(id) FROM pictures)")
        return 0 if first is None else int(last - first) + 1

    def seal(self, gone: Iterable[str], written: Sequence[str]) -> None:
        """Put written shards in the place of others and of what was waiting, all at once."""
        with self.transaction():
            for name in gone:
                self._run("DELETE FROM shards WHERE name = ?", [name])
                self._run("DELETE FROM dropped WHERE shard = ?", [name])
            for name in written:
                self._run("INSERT INTO shards VALUES (?)", [name])
            self._run("DELETE FROM pictures")

    def shrink(self) -> None:
        """Give back the room of what was let go."""
        self._run("VACUUM")

    def begin(self) -> None:
        """Write the file of a store that has no shards, whatever lies in its folder."""
        super().keep()

    def keep(self) -> None:
        """Write what is in memory to the file; the shards that are there become its own."""
        if self.is_new:
            with self.transaction():
                for name in self.shards():
                    self._run("INSERT OR IGNORE INTO shards VALUES (?)", [name])
        super().keep()

    def strays(self) -> Iterator[Path]:
        """Shards that were begun or written and never became the store's, or are no longer."""
        known = set(self.shards())
        yield from (path for path in self._shards_folder.glob(SHARDS) if path.name not in known)
        yield from self._shards_folder.glob(".*.parquet.tmp")

    def _write_schema(self) -> None:
        super()._write_schema()
        with self._reported():
            self._connection.executescript(_TABLES)


def shard_name(place: int, version: int = 0) -> str:
    """A shard's file name: its place among the others, and how often it was written again."""
    return f"streams-{place:05}{f'-r{version}' if version else ''}.parquet"


def place_of(name: str) -> tuple[int, int, str]:
    """What shards are ordered by: place, version, and for those that others have named, the name."""
    found = _SHARD.fullmatch(name)
    return (int(found[1]), int(found[2] or 0), name) if found else (0, 0, name)
