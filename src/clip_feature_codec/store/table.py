"""The SQLite file of a manifest: its tables, in memory until there is something to keep; and transactions."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clip_feature_codec.errors import StoreError
from clip_feature_codec.files import atomic_path

_COUNTER = slice(24, 28)  # of a SQLite file: how often it was changed
_BUSY = 60.0  # seconds to wait for another process's transaction, which takes milliseconds
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS pictures (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        source_bytes INTEGER NOT NULL,
        source_mtime_ns INTEGER NOT NULL,
        semantic_bytes INTEGER,
        layout_bytes INTEGER,
        name_key INTEGER NOT NULL,
        source_key INTEGER NOT NULL,
        removed INTEGER NOT NULL DEFAULT 0,
        stream BLOB
    );
    CREATE INDEX IF NOT EXISTS pictures_by_name ON pictures (name_key);
    CREATE INDEX IF NOT EXISTS pictures_by_source ON pictures (source_key);
"""
SELECT = """
    SELECT id, name, source, sha256, bytes, width, height, source_bytes, source_mtime_ns,
        semantic_bytes, layout_bytes, stream
    FROM pictures
"""
"""What `manifest.entry_of_row` takes."""
PARTS = """
    CREATE TABLE IF NOT EXISTS parts (
        part TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        pictures INTEGER NOT NULL,
        failures TEXT NOT NULL
    ) WITHOUT ROWID
"""
"""Archives that were encoded to their end; made when it is first asked for."""


class Table:
    """The file, or until something is written to it, the same in memory.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._depth = 0
        self._in_memory = not path.exists()
        self._connect()
        if self._in_memory:
            self._write_schema()

    @property
    def is_new(self) -> bool:
        """Whether there is no file yet."""
        return self._in_memory

    def keep(self) -> None:
        """Write what is in memory to the file, whole or not at all."""
        if not self._in_memory:
            return
        with self._reported(), atomic_path(self.path) as temporary:
            copy = sqlite3.connect(temporary)
            self._connection.backup(copy)
            copy.close()
        self._in_memory = False
        self._connect()

    @contextmanager
    def transaction(self, *, reading: bool = False) -> Iterator[None]:
        """Make all changes of the block, or none of them; one within another belongs to that.

        Args:
            reading: nothing is changed, and what is read is of one moment.
        """
        self._depth += 1
        try:
            if self._depth == 1:
                self._run("BEGIN" if reading else "BEGIN IMMEDIATE")
            yield
            if self._depth == 1:
                self._commit()
        except BaseException:
            if self._depth == 1 and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    def state(self) -> str:
        """What differs after every change of the file; empty while all is in memory."""
        if self._in_memory:
            return ""
        with self.transaction(reading=True), self._reported():
            self._connection.execute("SELECT 1 FROM pictures LIMIT 1").fetchall()  # from here on, none writes
            with self.path.open("rb") as file:
                counter = file.read(_COUNTER.stop)[_COUNTER]
            return f"{counter.hex()} {self.path.stat().st_size}"

    def _run(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _commit(self) -> None:
        self._run("COMMIT")

    def _write_schema(self) -> None:
        with self._reported():
            self._connection.executescript(_SCHEMA)

    def _connect(self) -> None:
        with self._reported():
            place = ":memory:" if self._in_memory else f"{self.path.resolve().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(
                place, timeout=_BUSY, isolation_level=None, check_same_thread=False, uri=True
            )
            weakref.finalize(self, self._connection.close)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            if not self._in_memory:
                self._connection.execute(SELECT + "WHERE NOT removed LIMIT 0")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Say which file it is that SQLite finds something wrong with."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self.path}: cannot be used: {error}")
