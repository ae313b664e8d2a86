"""Which pictures are embedded together: a vector's last bits depend on the others in its batch.

Batches lie within a part of a source. Pictures in archives have their place in one by counting from its
beginning; those that are files of their own by a plan (`plan`), since any of them may come or go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, tee
from typing import Protocol, TypeVar

from clip_feature_codec.encode.chunks import Chunk
from clip_feature_codec.parallel import ahead
from clip_feature_codec.sources.protocol import Notes, Part, Source, SourcePicture
from clip_feature_codec.store.manifest import DonePart
from clip_feature_codec.store.writing import WritableStore

T = TypeVar("T")


@dataclass(frozen=True)
class Ended:
    """An archive, or a part of one, that was read to its end.

    Attributes:
        part: which.
        notes: what was met in it.
        count: how many pictures it has.
    """

    part: Part
    notes: Notes
    count: int


@dataclass(frozen=True)
class Batch:
    """Pictures that are embedded together.

    Attributes:
        key: the same for the same pictures in the same order, and for no others.
        pictures: what is to be read.
        open: how many of them are not in the store yet, as they are now.
        ended: what ends behind them.
    """

    key: str
    pictures: list[SourcePicture] = field(default_factory=list)
    open: int = 0
    ended: Ended | None = None


class Run(Protocol):
    """Batches that follow each other. It is small and can be pickled; whoever has it finds their pictures."""

    def batches(self) -> Iterator[Batch]:
        """The batches in order, of pictures that are known, too."""


class Batches(Protocol):
    """All batches of a piece of work.

    Attributes:
        total: how many pictures there are in them; None where that is not known before they are read.
    """

    total: int | None

    def __iter__(self) -> Iterator[Batch]:
        """All of them, in order; each time anew."""

    def runs(self) -> list[Run]:
        """The same to be taken by many."""

    def sample(self, limit: int) -> list[Run]:
        """Some ``limit`` of them, from all over the source, in order; all, where there are no more."""

    def are_all(self, sampled: Sequence[Batch]) -> bool:
        """Whether a sample has all of them."""


class StoreKnown:
    """What a store has already (see `sources.protocol.Known`).

    Args:
        store: the store; None where there is none yet.
        settings: what else decides whether a picture can be read.

    Attributes:
        unchanged: how many of the pictures that were asked for are there.
        failures: (place, reason) of pictures of archives that are there as far as they can be.
    """

    def __init__(self, store: WritableStore | None, settings: str) -> None:
        self._store, self._settings = store, settings
        self.unchanged = 0
        self.failures: list[tuple[str, str]] = []

    def has_picture(self, picture: SourcePicture) -> bool:
        """Whether a picture is there, as it is now."""
        there = self._store is not None and self._store.has(picture.place, picture.size, picture.mtime_ns)
        self.unchanged += there
        return there

    def unknown(self, pictures: Iterable[SourcePicture]) -> Iterator[SourcePicture]:
        """The pictures of a listing that are not there, as they are now, in order."""
        if self._store is None:
            yield from pictures
            return
        asked, listed = tee(pictures)
        there = self._store.has_each((found.place, found.size, found.mtime_ns) for found in asked)
        for found, is_there in zip(listed, there, strict=True):
            self.unchanged += is_there
            if not is_there:
                yield found

    def has_part(self, part: Part) -> bool:
        """Whether an archive was encoded to its end, as it is now."""
        done = None if self._store is None else self._store.done_part(part.key)
        if done is None or done.state != self._state(part):
            return False
        self.unchanged += done.pictures
        self.failures += done.failures
        return True

    def done(self, ended: Ended, failures: list[tuple[str, str]]) -> DonePart:
        """What a store keeps of a part, of whose pictures some cannot be read or stored."""
        stored = ended.count - len(failures)
        return DonePart(self._state(ended.part), stored, failures + ended.notes.failures)

    def counted(self, batch: Batch, chunk: Chunk, blobs: list[bytes]) -> tuple[Batch, Chunk, list[bytes]]:
        """The same, of a batch that was read where nobody knows what is in the store: now it is told."""
        found = (
            SourcePicture(new.inside, new.place, new.source_bytes, new.source_mtime_ns)
            for new in chunk.pictures
        )
        unknown = len(chunk.failures) + sum(not self.has_picture(picture) for picture in found)
        return replace(batch, open=unknown), chunk, blobs

    def _state(self, part: Part) -> str:
        return f"{part.state} {self._settings}"


class ArchiveBatches:
    """The batches of a source that has its pictures in archives (see `Batches`)."""

    total: int | None = None

    def __init__(self, source: Source, known: StoreKnown, size: int) -> None:
        self._source, self._known, self._size = source, known, size

    def __iter__(self) -> Iterator[Batch]:
        """All of them but those whose pictures are all known, in order."""
        for run in self._runs():
            for batch in run.batches():
                unknown = sum(not self._known.has_picture(picture) for picture in batch.pictures)
                if unknown or batch.ended:
                    yield replace(batch, open=unknown)

    def runs(self) -> list[Run]:
        """One for each part."""
        return list(self._runs())

    def sample(self, limit: int) -> list[Run]:
        """The first ones of each part, or where there are too many parts, of some of them."""
        runs = list(self._runs())
        chosen = list(spread(runs, limit))
        quota = max(1, limit // max(1, len(chosen)))
        return [replace(run, limit=quota) for run in chosen]

    def are_all(self, sampled: Sequence[Batch]) -> bool:
        """Whether a sample has the end of every part."""
        return sum(batch.ended is not None for batch in sampled) == len(list(self._runs()))

    def _runs(self) -> Iterator[_PartRun]:
        return (_PartRun(part, self._size) for part in self._source.parts(self._size, self._known))


@dataclass(frozen=True)
class _PartRun:
    """The batches of a part; only the first ``limit``, where there is one, and what ends with them."""

    part: Part
    size: int
    limit: int | None = None

    def batches(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._all()):
            if self.limit is not None and number >= self.limit and batch.ended is None:
                return
            yield batch

    def _all(self) -> Iterator[Batch]:
        notes, number, count = Notes(), 0, 0
        pictures = ahead(self.part.pictures(notes), self.size)
        while batch := list(islice(pictures, self.size)):
            key = digest([self.part.key, self.part.state, number, self.size])
            yield Batch(key, batch, len(batch))
            number, count = number + 1, count + len(batch)
        yield Batch(digest([self.part.key, self.part.state]), ended=Ended(self.part, notes, count))


def spread(items: list[T], limit: int) -> Iterable[T]:
    """At most ``limit`` items, at equal distances."""
    count = len(items)
    return (items[i * count // limit] for i in range(limit)) if count > limit else items


def digest(values: object) -> str:
    """A name for a value that JSON can hold."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]
