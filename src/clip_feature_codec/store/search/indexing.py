"""Keeping the search index of a store up to date: what is new becomes a segment, what is gone is marked."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.semantic.coarse import CoarseFrame
from clip_feature_codec.errors import BitstreamError, SpaceMismatchError
from clip_feature_codec.names import INDEX_FOLDER
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import HASH_BYTES, Entry
from clip_feature_codec.store.parts import Part
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.search.index_file import IndexFile, PartIndex
from clip_feature_codec.store.search.segments import SEGMENT_ROWS, Segment, joined

log = logging.getLogger(__name__)

_SAMPLE = 16_384  # vectors that axes are fitted on
_OUTGROWN = 4  # times as many as were fitted: fit again
_STREAMS_AT_ONCE = 2048
_BLOCKS = 64  # that a sample is taken in, from all over the store
_ATTEMPTS = 3  # to open an index that others replace
_MOSTLY_GONE = 4  # a segment is written again when one in so many of its entries is gone


class Streams:
    """Decodes the streams of a store; remembers those that cannot be.

    Attributes:
        failures: (path, reason) of these, by the names of their entries.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failures: dict[str, tuple[str, str]] = {}

    def decode(self, entries: Sequence[Entry]) -> tuple[list[Entry], NDArray[np.float64]]:
        """The entries that can be decoded, and their vectors: float64 (n, D), unit length."""
        good, streams = [], []
        for entry in entries:
            try:
                streams.append(self._store.read(entry))
                good.append(entry)
            except BitstreamError as error:
                self.failures[entry.name] = str(self._store.stream_path(entry)), str(error)
        return self.decode_read(good, streams)

    def decode_read(
        self, entries: list[Entry], streams: list[Stream]
    ) -> tuple[list[Entry], NDArray[np.float64]]:
        """The same where their streams have been read already."""
        try:
            vectors = self._store.codec.vectors(streams).astype(np.float64)
        except BitstreamError as error:
            if len(entries) == 1:
                path = str(self._store.stream_path(entries[0]))
                self.failures[entries[0].name] = path, f"{path}: {error}"
                return [], np.zeros((0, self._store.codec.dim))
            half = len(entries) // 2  # finds a few bad ones among thousands in few steps
            first, last = (
                self.decode_read(entries[:half], streams[:half]),
                self.decode_read(entries[half:], streams[half:]),
            )
            return first[0] + last[0], np.concatenate([first[1], last[1]])
        return entries, vectors / np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))


def updated_index(
    store: Store, parts: Sequence[Part], streams: Streams, progress: Progress = silent
) -> IndexFile:
    """Bring the index of a store up to date, and keep it beside the store where that can be written to.

    Where no part has changed, nothing is read but the list of segments. An index that is damaged, of another
    version or of other tables is made again. Streams that cannot be decoded are left out; the next call tries
    them again. One process at a time brings an index up to date; others wait, and find it done.

    Args:
        store: the store.
        parts: of the store.
        streams: takes what cannot be decoded.
        progress: told of the streams that are read.

    Raises:
        SpaceMismatchError: the index that is there belongs to another CLIP space.
    """
    folder = store.folder / INDEX_FOLDER
    old = _usable(folder, store)
    if old is not None and _is_current(old, parts):
        return old
    try:
        with _locked(folder):
            old = _usable(folder, store, logging.DEBUG)  # by now, somebody else may have done it
            return _Update(store, parts, streams, folder, progress).made(old, keep=True)
    except OSError as error:  # it is a cache, and a store may be there to be read only
        log.info("%s: the index is not kept: %s", folder, error.strerror)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:  # what is mapped outlives it
        return _Update(store, parts, streams, Path(place), progress).made(old, keep=False)


def _is_current(index: IndexFile, parts: Sequence[Part]) -> bool:
    states = {name: part.state for name, part in index.parts.items()}
    failed = any(part.failed for part in index.parts.values())
    return not failed and "" not in states.values() and states == {part.name: part.state for part in parts}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to an index during the block. Raises OSError."""
    if folder.is_file():  # of an earlier version
        folder.unlink()
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def _usable(folder: Path, store: Store, level: int = logging.INFO) -> IndexFile | None:
    """The index that is there, or None where one has to be made; why another one has to, is logged."""
    index = _loaded(folder, level)
    if index is None:
        return None
    if index.space.fingerprint != store.codec.space.fingerprint:
        raise SpaceMismatchError(
            f"{folder}: found an index of CLIP space {index.space.label}, expected "
            f"{store.codec.space.label}, the store's: remove the folder to have it made again"
        )
    if index.tables_sha256 != store.codec.tables_sha256:
        log.log(level, "%s: made again, since the store's tables have changed", folder)
        return None
    return index


def _loaded(folder: Path, level: int) -> IndexFile | None:
    for attempt in range(_ATTEMPTS):
        try:
            return IndexFile.load(folder)
        except FileNotFoundError:  # there is none, or its list was replaced while it was opened
            if attempt + 1 == _ATTEMPTS:
                return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log.log(level, "%s: made again, since the old one cannot be used (%s)", folder, reason)
            return None
    return None


@dataclass
class _Change:
    """What has changed in a part.

    Attributes:
        part: the part.
        numbers, keys: of entries that no segment has, (n,) and (n, 16).
        segments, gone: those that stay, and what is gone of each.
    """

    part: Part
    numbers: NDArray[np.int64]
    keys: NDArray[np.uint8]
    segments: list[Segment]
    gone: list[NDArray[np.intp]]

    @classmethod
    def of(cls, part: Part, known: PartIndex) -> _Change:
        """Compare a part with what is known of it."""
        numbers, keys = part.hashes()
        have = np.zeros(len(numbers), bool)
        gone = []
        for segment in known.segments:
            at = np.minimum(np.searchsorted(numbers, segment.numbers), max(0, len(numbers) - 1))
            live = np.zeros(len(segment), bool)
            if len(numbers):
                live = (numbers[at] == segment.numbers) & (keys[at] == segment.keys).all(axis=1) & ~have[at]
                have[at[live]] = True
            gone.append(np.flatnonzero(~live))
        return cls(part, numbers[~have], keys[~have], list(known.segments), gone)


class _Update:
    """One piece of work: an index for the store as it is now, its new segments in a folder."""

    def __init__(
        self, store: Store, parts: Sequence[Part], streams: Streams, place: Path, progress: Progress
    ) -> None:
        self._store, self._parts, self._streams = store, parts, streams
        self._place, self._progress = place, progress
        self._done = self._total = 0
        self._left = _Left([])

    def made(self, old: IndexFile | None, *, keep: bool) -> IndexFile:
        """The index, from one that is there; with ``keep``, its list is written after each part."""
        index = self._extended(old, keep) if old else None
        if index is None or _OUTGROWN * index.fitted < min(index.pictures, _OUTGROWN * _SAMPLE):
            codec, sample = self._store.codec, self._sample()
            frame = CoarseFrame.fit(sample, codec.dim)
            empty = IndexFile(codec.space, codec.tables_sha256, frame, len(sample))
            index = self._extended(empty, keep)
        return index

    def _sample(self) -> NDArray[np.float64]:
        """Vectors from all over the store, (n, D)."""
        found = [np.zeros((0, self._store.codec.dim))]
        size, total = _SAMPLE // _BLOCKS, len(self._store)
        for part in self._parts:
            numbers, _ = part.hashes()
            for first in range(0, len(numbers), max(size, total // _BLOCKS)):
                there = filter(None, part.entries(numbers[first : first + size].tolist()))
                found.append(self._streams.decode(list(there))[1])
        return np.concatenate(found)

    def _extended(self, old: IndexFile, keep: bool) -> IndexFile:
        names = {part.name for part in self._parts}
        known = {part.name: old.parts.get(part.name, PartIndex()) for part in self._parts}
        changes = [
            _Change.of(part, known[part.name])
            for part in self._parts
            if not part.state or part.state != known[part.name].state or known[part.name].failed
        ]
        left = [s for name, part in old.parts.items() if name not in names for s in part.segments]
        for change in changes:
            left += [s for s, gone in zip(change.segments, change.gone, strict=True) if len(gone)]
        self._left = _Left(left)
        self._done, self._total = 0, sum(len(change.numbers) for change in changes)
        index = replace(old, parts=known)
        for change in changes:
            for found in self._part(change, old.frame):
                index = replace(index, parts=index.parts | {change.part.name: found})
                if keep:
                    index = index.saved(self._place)
        if keep and not changes:  # parts are gone
            index = index.saved(self._place)
        if self._total:
            self._progress("indexing", self._total, self._total)
        return index

    def _part(self, change: _Change, frame: CoarseFrame) -> Iterator[PartIndex]:
        """A part as it is after each new segment; the last one is whole."""
        segments, gone = self._kept(change)
        waiting, failed = [], []
        # Small ones at the end are taken along: so there are few, however often a little is added.
        added = len(change.numbers)
        while segments and len(segments[-1]) < min(SEGMENT_ROWS, 2 * added):
            live = np.setdiff1d(np.arange(len(segments[-1])), gone.pop())
            waiting.append(segments.pop().take(live))
            added += len(live)
        for segment, bad in self._new(change, frame):
            waiting.append(segment)
            failed += bad
            if sum(map(len, waiting)) >= SEGMENT_ROWS:
                *whole, rest = joined(waiting).sliced(SEGMENT_ROWS)
                segments += [piece.saved(self._place) for piece in whole]
                waiting = [rest]
                gone += [np.zeros(0, np.intp)] * (len(segments) - len(gone))
                yield PartIndex("", tuple(segments), tuple(gone), tuple(failed))
        pieces = joined(waiting).sliced(SEGMENT_ROWS) if waiting else []
        segments += [piece.saved(self._place) for piece in pieces]
        gone += [np.zeros(0, np.intp)] * (len(segments) - len(gone))
        yield PartIndex(change.part.state, tuple(segments), tuple(gone), tuple(failed))

    def _kept(self, change: _Change) -> tuple[list[Segment], list[NDArray[np.intp]]]:
        """The segments that stay, written again where much of one is gone."""
        segments, gone = [], []
        for segment, places in zip(change.segments, change.gone, strict=True):
            if _MOSTLY_GONE * len(places) <= len(segment):
                segments.append(segment)
                gone.append(places)
            elif len(places) < len(segment):
                live = np.setdiff1d(np.arange(len(segment)), places)
                segments.append(segment.take(live).saved(self._place))
                gone.append(np.zeros(0, np.intp))
        return segments, gone

    def _new(self, change: _Change, frame: CoarseFrame) -> Iterator[tuple[Segment, list[int]]]:
        """Vectors of entries that no segment has, some at a time, and the numbers of those that have none."""
        for first in range(0, len(change.numbers), _STREAMS_AT_ONCE):
            self._progress("indexing", self._done, self._total)
            numbers = change.numbers[first : first + _STREAMS_AT_ONCE]
            self._done += len(numbers)
            found, others = self._left.taken(numbers, change.keys[first : first + _STREAMS_AT_ONCE])
            entries = {e.name: (n, e) for n, e in zip(others, change.part.entries(others), strict=True) if e}
            good, vectors = self._streams.decode([entry for _, entry in entries.values()])
            decoded = np.array([entries.pop(entry.name)[0] for entry in good], np.int64)
            keys = np.frombuffer(bytes.fromhex("".join(entry.sha256 for entry in good)), np.uint8)
            found.append(Segment.of(frame, vectors, keys.reshape(-1, HASH_BYTES), decoded))
            yield joined(found), [number for number, _ in entries.values()]


class _Left:
    """Vectors of parts that are no more: of shards that were written again, for the most part."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        starts = np.cumsum([0, *map(len, segments)])
        words = [_words(segment.keys) for segment in segments]
        every = np.concatenate(words) if words else np.zeros(0, np.uint64)
        self._starts, self._order = starts, np.argsort(every)
        self._words = every[self._order]

    def taken(self, numbers: NDArray[np.int64], keys: NDArray[np.uint8]) -> tuple[list[Segment], list[int]]:
        """What there is for streams of these keys (n, 16), under numbers (n,); and the other numbers."""
        have = np.zeros(len(numbers), bool)
        found: list[Segment] = []
        if len(self._words):
            at = np.minimum(np.searchsorted(self._words, _words(keys)), len(self._words) - 1)
            rows = self._order[at]
            for first, segment in zip(self._starts, self._segments, strict=False):
                mine = np.flatnonzero((rows >= first) & (rows < first + len(segment)))
                same = (segment.keys[rows[mine] - first] == keys[mine]).all(axis=1) & keys[mine].any(axis=1)
                mine = mine[same]
                if len(mine):
                    have[mine] = True
                    found.append(segment.take(rows[mine] - first, numbers[mine]))
        return found, numbers[~have].tolist()


def _words(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first half of each key (n, 16) as a number."""
    words: NDArray[np.uint64] = np.ascontiguousarray(keys[:, :8]).view(np.uint64).reshape(-1)
    return words
