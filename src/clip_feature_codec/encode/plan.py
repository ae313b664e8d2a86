"""The plan of an encoding that is under way: which files share a batch, fixed before the first is embedded.

It is kept until the store is written, so that a killed run can be taken up again: after it, other pictures
would be left to share batches. Batches are read from it one by one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from clip_feature_codec.encode.batches import Batch, Run, StoreKnown, digest, spread
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.places import place_in
from clip_feature_codec.sources.files import File
from clip_feature_codec.sources.protocol import Known, Notes, Part, Source, SourcePicture

_FILE = "plan.jsonl"
_RUNS, _LONGEST_RUN = 1024, 32
"""So many runs are made at least, where there are batches enough, and of so many batches at most."""
_LISTED_AT_ONCE = 1024
_Planned = tuple[int, list[File]]
"""How many files of a batch are not in the store yet, and all files of it."""


class Plan:
    """The batches of a source whose pictures are files (see `batches.Batches`); made by `make`.

    Attributes:
        total: how many pictures there are in them.
    """

    def __init__(self, path: Path, root: str, count: int, total: int) -> None:
        self._path, self._root, self._count = path.resolve(), root, count
        self.total: int | None = total

    @classmethod
    def make(
        cls, folder: Path, source: Source, known: StoreKnown, head: Mapping[str, object], size: int
    ) -> Plan:
        """Go on with the plan of an interrupted run, and add what is new as batches of its own.

        Args:
            folder: where the plan is kept, beside the chunks that are done.
            source: what is encoded.
            known: what is in the store.
            head: what else a plan has to agree in to be gone on with; JSON-able.
            size: pictures in a batch.
        """
        path, head = folder / _FILE, {**head, "root": _absolute(source.root), "batch_size": size}
        old = _Interrupted(path, head, source, known)
        new = ((len(files), files) for files in _files(source, size, _Unplanned(known, old.planned)))
        kept = old.batches() if old.planned else iter(())
        if not old.planned:
            shutil.rmtree(folder, ignore_errors=True)
        first = next(new, None)
        if first is None and not old.planned:
            return cls(path, source.root, 0, 0)
        return cls(path, source.root, *_write(path, head, chain(kept, [first] if first else [], new)))

    def __iter__(self) -> Iterator[Batch]:
        """All batches, in order."""
        return _Lines(self._path, self._root, 0, self._count).batches() if self._count else iter(())

    def runs(self) -> list[Run]:
        """Lines that follow each other: of a large plan many, of a small one each by itself."""
        size = min(max(self._count // _RUNS, 1), _LONGEST_RUN)
        starts = list(self._offsets())[::size]
        return [_Lines(self._path, self._root, start, size) for start in starts]

    def sample(self, limit: int) -> list[Run]:
        """So many batches at equal distances, or all of them."""
        chosen = spread(list(self._offsets()), limit)
        return [_Lines(self._path, self._root, start, 1) for start in chosen]

    def are_all(self, sampled: Sequence[Batch]) -> bool:
        """Whether a sample has all batches."""
        return len(sampled) == self._count

    def _offsets(self) -> Iterator[int]:
        """Where the lines of the batches begin."""
        if self._count:
            with self._path.open("rb") as file:
                file.readline()
                for _ in range(self._count):
                    yield file.tell()
                    file.readline()


@dataclass(frozen=True)
class _Lines:
    """Some lines of a plan, from an offset on."""

    path: Path
    root: str
    start: int
    count: int

    def batches(self) -> Iterator[Batch]:
        for unknown, files in islice(_lines(self.path, self.start), self.count):
            pictures = [
                SourcePicture(name, place_in(self.root, name), size, time) for name, size, time in files
            ]
            yield Batch(digest([name for name, _, _ in files]), pictures, unknown)


class _Unplanned:
    """What is in the store, or in a plan already."""

    def __init__(self, known: StoreKnown, planned: set[str]) -> None:
        self._known, self._planned = known, planned

    def unknown(self, pictures: Iterable[SourcePicture]) -> Iterator[SourcePicture]:
        return (found for found in self._known.unknown(pictures) if found.name not in self._planned)

    def has_part(self, part: Part) -> bool:
        return self._known.has_part(part)


def _files(source: Source, size: int, known: Known) -> Iterator[list[File]]:
    for part in source.parts(size, known):
        yield [(found.name, found.size, found.mtime_ns) for found in part.pictures(Notes())]


class _Interrupted:
    """What still holds of the plan of an interrupted run of the same kind; nothing if there was no such run.

    Attributes:
        planned: the names in it.
    """

    def __init__(self, path: Path, head: Mapping[str, object], source: Source, known: StoreKnown) -> None:
        self._path = path
        self._files: dict[str, File] = {}
        self._unknown: set[str] = set()
        self.planned: set[str] = set()
        if not _begins_with(path, head):
            return
        before = known.unchanged
        self._unknown.update(found.name for found in known.unknown(self._listed(source)))
        known.unchanged = before  # they are asked for once more
        for _, files in self.batches():
            self.planned.update(name for name, _, _ in files)

    def batches(self) -> Iterator[_Planned]:
        """Its batches that lost no picture and are not done, with the pictures as they are now."""
        for _, files in _lines(self._path):
            found = [self._files[name] for name, _, _ in files if name in self._files]
            todo = sum(name in self._unknown for name, _, _ in found)
            if todo and len(found) == len(files):
                yield todo, found

    def _listed(self, source: Source) -> Iterator[SourcePicture]:
        """All pictures there are now; each is noted when it is taken."""
        for part in source.parts(_LISTED_AT_ONCE):
            for found in part.pictures(Notes()):
                self._files[found.name] = found.name, found.size, found.mtime_ns
                yield found


def _write(path: Path, head: Mapping[str, object], batches: Iterable[_Planned]) -> tuple[int, int]:
    """Write a plan; give the number of its batches, and of the pictures in them."""
    count = total = 0
    with atomic_writer(path) as file:
        file.write(json.dumps(head).encode() + b"\n")
        for batch in batches:
            file.write(json.dumps(batch).encode() + b"\n")
            count, total = count + 1, total + len(batch[1])
    return count, total


def _begins_with(path: Path, head: Mapping[str, object]) -> bool:
    """Whether there is a plan, of the same kind."""
    try:
        with path.open("rb") as file:
            return bool(json.loads(file.readline()) == head)
    except (OSError, ValueError):
        return False


def _lines(path: Path, start: int = 0) -> Iterator[_Planned]:
    """The batches from an offset on; from the beginning, those behind the head."""
    with path.open("rb") as file:
        file.seek(start)
        if not start:
            file.readline()
        yield from map(json.loads, file)


def _absolute(root: str) -> str:
    return root if "://" in root else str(Path(root).resolve())
