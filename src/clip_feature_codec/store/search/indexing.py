"""Keeping the search index of a store up to date: what is new is added, what is gone is dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.semantic.affine import LEVELS, AffineQuantizer
from clip_feature_codec.errors import BitstreamError, SpaceMismatchError
from clip_feature_codec.names import INDEX_FILE
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.search.index_file import KEY_BYTES, IndexFile, IndexRows

log = logging.getLogger(__name__)

_SAMPLE = 16_384  # vectors that the levels are fitted on
_MARGIN = 1.25  # of the range: a channel beyond it costs far more accuracy than a wider step
_OUTGROWN = 4  # times as many as were fitted: fit again
_STREAMS_AT_ONCE = 4096


def updated_index(store: Store, progress: Progress = silent) -> tuple[IndexFile, Streams]:
    """Bring the index of a store up to date, and keep it beside the store where that can be written to.

    An index that is damaged, of another version or of other tables is made again. Streams that cannot be
    decoded are left out; the next call tries them again. Nothing is locked: the file is replaced as a whole,
    and of two processes the later one's stays.

    Args:
        store: the store.
        progress: told of the streams that are read.

    Returns:
        The index, and the reader of streams with what could not be decoded.

    Raises:
        SpaceMismatchError: the index that is there belongs to another CLIP space.
    """
    path, streams = store.folder / INDEX_FILE, Streams(store)
    old = _usable(path, store)
    file = _extended(old, streams, store, progress) if old else None
    if file is None or _OUTGROWN * file.fitted < min(len(file.rows), _OUTGROWN * _SAMPLE):
        file = _made_anew(streams, store, progress)
    if file is not old:
        try:
            file.save(path)
        except OSError as error:  # it is a cache, and a store may be there to be read only
            log.info("%s: the index is not kept: %s", path, error.strerror)
    return file, streams


class Streams:
    """Decodes the streams of a store; remembers those that cannot be."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failures: dict[str, str] = {}

    def decode(self, entries: Sequence[Entry]) -> tuple[list[Entry], NDArray[np.float64]]:
        """The entries that can be decoded, and their vectors: float64 (n, D), unit length."""
        good, streams = [], []
        for entry in entries:
            try:
                streams.append(self._store.read(entry))
                good.append(entry)
            except BitstreamError as error:
                self.failures[entry.name] = str(error)
        return self._decode(good, streams)

    def _decode(self, entries: list[Entry], streams: list[Stream]) -> tuple[list[Entry], NDArray[np.float64]]:
        try:
            vectors = self._store.codec.vectors(streams).astype(np.float64)
        except BitstreamError as error:
            if len(entries) == 1:
                self.failures[entries[0].name] = f"{self._store.stream_path(entries[0])}: {error}"
                return [], np.zeros((0, self._store.codec.dim))
            half = len(entries) // 2  # finds a few bad ones among thousands in few steps
            first, last = (
                self._decode(entries[:half], streams[:half]),
                self._decode(entries[half:], streams[half:]),
            )
            return first[0] + last[0], np.concatenate([first[1], last[1]])
        return entries, vectors / np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))


def _usable(path: Path, store: Store) -> IndexFile | None:
    """The index that is there, or None where one has to be made."""
    try:
        file = IndexFile.load(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        log.info("%s: made again, since the old one cannot be used (%s)", path, reason)
        return None
    if file.space.fingerprint != store.codec.space.fingerprint:
        raise SpaceMismatchError(
            f"{path}: found an index of CLIP space {file.space.label}, expected "
            f"{store.codec.space.label}, the store's: remove the file to have it made again"
        )
    if file.tables_sha256 != store.codec.tables_sha256:
        log.info("%s: made again, since the store's tables have changed", path)
        return None
    return file


def _extended(old: IndexFile, streams: Streams, store: Store, progress: Progress) -> IndexFile:
    """The index for the store as it is now; ``old`` itself where nothing has changed."""
    known = rows_of(old.rows.keys)
    wanted = {key_of(entry) for entry in store.entries}
    kept = np.array([row for key, row in known.items() if key in wanted], dtype=np.intp)
    added = list(
        _new_rows(streams, [e for e in store.entries if key_of(e) not in known], old.quantizer, progress)
    )
    if len(kept) == len(old.rows) and not added:
        return old
    rows = old.rows if len(kept) == len(old.rows) else old.rows.take(kept)
    return replace(old, rows=IndexRows.joined([rows, *added]))


def _made_anew(streams: Streams, store: Store, progress: Progress) -> IndexFile:
    """An index made from nothing, its levels fitted on vectors from all over the store."""
    dim, entries = store.codec.dim, store.entries
    _, sample = streams.decode(entries[:: 1 + len(entries) // _SAMPLE])
    if len(sample):
        fitted = AffineQuantizer.fit(sample.astype(np.float32))
        wider = np.float32((_MARGIN - 1) * (LEVELS - 1) / 2) * fitted.step
        quantizer = AffineQuantizer(fitted.minimum - wider, fitted.step * np.float32(_MARGIN))
    else:
        step = np.full(dim, 2 / (LEVELS - 1), np.float32)
        quantizer = AffineQuantizer(np.full(dim, -1, np.float32), step)
    rows = IndexRows.joined([IndexRows.none(dim), *_new_rows(streams, entries, quantizer, progress)])
    return IndexFile(store.codec.space, store.codec.tables_sha256, quantizer, len(rows), rows)


def _new_rows(
    streams: Streams, entries: Sequence[Entry], quantizer: AffineQuantizer, progress: Progress
) -> Iterator[IndexRows]:
    """Rows of the streams that can be decoded, one for all that are the same, a block at a time."""
    seen: set[bytes] = set()
    for first in range(0, len(entries), _STREAMS_AT_ONCE):
        progress("indexing", first, len(entries))
        good, vectors = streams.decode(entries[first : first + _STREAMS_AT_ONCE])
        fresh = {
            key_of(entry): i for i, entry in reversed(list(enumerate(good))) if key_of(entry) not in seen
        }
        seen.update(fresh)
        if fresh:
            keys = np.frombuffer(b"".join(fresh), np.uint8).reshape(len(fresh), KEY_BYTES)
            yield IndexRows.of(vectors[list(fresh.values())], keys, quantizer)
    if entries:
        progress("indexing", len(entries), len(entries))


def rows_of(keys: NDArray[np.uint8]) -> dict[bytes, int]:
    """The row of each key: of uint8 (N, 16)."""
    data = keys.tobytes()
    return {data[KEY_BYTES * i : KEY_BYTES * (i + 1)]: i for i in range(len(keys))}


def key_of(entry: Entry) -> bytes:
    """What a stream is known by: what is kept of its SHA-256. Where there is none, no stream will match."""
    try:
        key = bytes.fromhex(entry.sha256)
    except ValueError:
        key = b""
    return key if len(key) == KEY_BYTES else entry.name.encode("utf-8", "surrogatepass")
