"""What a search for the best files found, kept in a file: it takes longer than to encode them again."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from clip_feature_codec.evaluate.baselines.baseline import Baseline, Settings

_log = logging.getLogger(__name__)
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_PATIENCE = 30.0  # seconds that one process waits for another's writing


class SearchCache:
    """Settings by picture, codec and limit, in an SQLite file that many processes may use at a time.

    What is found is written after every picture; a process that is killed loses no more than one. A file
    that is damaged is begun anew, and where none can be written, everything is searched for as without one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def search(
        self, baseline: Baseline, original: Image.Image, limits: Sequence[int]
    ) -> list[Settings | None]:
        """Do as `Baseline.search` does, but for limits that were searched before.

        Those are known again by pixels, size, the codec's name and version, and all that it tries.
        """
        key = search_key(baseline, original)
        known = self._read(key)
        missing = [limit for limit in dict.fromkeys(limits) if limit not in known]
        if missing:
            found = dict(zip(missing, baseline.search(original, missing), strict=True))
            self._write(key, found)
            known |= found
        return [known[limit] for limit in limits]

    def _read(self, key: str) -> dict[int, Settings | None]:
        try:
            with closing(self._open()) as database:
                rows = database.execute("SELECT bytes, settings FROM found WHERE key = ?", (key,)).fetchall()
            return {limit: json.loads(settings) for limit, settings in rows}
        except (sqlite3.Error, OSError, ValueError) as error:
            self._give_up(error)
            return {}

    def _write(self, key: str, found: dict[int, Settings | None]) -> None:
        rows = [(key, limit, json.dumps(settings)) for limit, settings in found.items()]
        try:
            with closing(self._open()) as database, database:
                database.executemany("INSERT OR REPLACE INTO found VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=_PATIENCE)
        try:
            database.execute(
                "CREATE TABLE IF NOT EXISTS found (key TEXT, bytes INTEGER, settings TEXT,"
                " PRIMARY KEY (key, bytes))"
            )
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _give_up(self, error: Exception) -> None:
        """Throw a damaged file away; what else may be wrong (a full disk, a lock) is no reason to."""
        if getattr(error, "sqlite_errorcode", None) in _DAMAGED or isinstance(error, ValueError):
            _log.warning("%s: damaged, begun anew: %s", self._path, error)
            self._path.unlink(missing_ok=True)
        else:
            _log.warning("%s: cannot be used: %s", self._path, error)


def search_key(baseline: Baseline, original: Image.Image) -> str:
    """SHA-256 of all that decides what a search finds, but for the limit; hexadecimal."""
    what = [original.mode, original.size, baseline.name, baseline.version, baseline.parameters]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    digest.update(original.tobytes())
    return digest.hexdigest()
