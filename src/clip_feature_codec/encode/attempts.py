"""Pictures that processes die of, found out by notes that outlive the process.

An image library may crash on a picture, or one may take more memory than there is. Nothing can be caught
then: the process is gone, and whoever starts it again starts it with the same work. So what works on a batch
writes down first that it begins, and takes the note away at its end. A note that is there was left by a
process that died: of a picture, or because somebody killed it. Work that has left a few of them is done
picture by picture; a picture that leaves as many again when it is alone is left out from then on.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from clip_feature_codec.encode.batches import digest
from clip_feature_codec.errors import WorkerError

T = TypeVar("T")

DEATHS = 3
"""So many processes may die of one thing before it counts as the cause."""


class Attempts:
    """The attempts at pieces of work, noted in a folder that all who work see.

    Args:
        folder: where; made with the first note. Whoever began the whole throws it away at the end.
        settings: what else decides whether a process survives; notes made under others do not count.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder, self._settings = folder, settings

    def died(self, key: object, done: str) -> bool:
        """Whether a process has ended amid a piece of work (see `run`)."""
        return self._file(key, done).exists()

    def run(
        self, key: object, done: str, places: Sequence[str], work: Callable[[Sequence[int]], T]
    ) -> tuple[T, list[tuple[str, str]]]:
        """The result of some work on pictures, but for those that processes die of.

        Args:
            key: the same for the same pictures in the same order, and for no others; JSON can hold it.
            done: what is done with them, as a participle: ``read``.
            places: where each of them is.
            work: gives a result for the pictures of some numbers.

        Returns:
            What ``work`` gave, and (place, reason) of the pictures that were left out.

        Raises:
            WorkerError: processes die of all together, and of none alone.
        """
        note = _Note(self._file(key, done))
        fatal: list[int] = []
        try:
            if note.deaths("all") < DEATHS:
                with note.under_way("all"):
                    return work(range(len(places))), []
            for number in range(len(places)):
                if note.deaths(f"{number}") >= DEATHS:
                    fatal.append(number)
                elif not note.is_passed(f"{number}"):
                    with note.under_way(f"{number}"):
                        work([number])
            rest = [number for number in range(len(places)) if number not in fatal]
            if note.deaths("rest") >= DEATHS:
                note.remove()  # run again, it may have more memory
                raise WorkerError(
                    f"{DEATHS} processes died when {len(rest)} pictures were {done} together, and of none "
                    "alone: there may be too little memory for so many at once"
                )
            with note.under_way("rest"):
                result = work(rest)
            return result, [(places[number], _reason(places[number], done)) for number in fatal]
        finally:
            if not fatal:  # else whoever does it again is to know at once
                note.remove()

    def remove(self) -> None:
        """Throw all notes away: the whole is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, key: object, done: str) -> Path:
        return self._folder / f"{digest([key, done, self._settings])}.begun"


def _reason(place: str, done: str) -> str:
    why = "a fault in a library, or too little memory"
    return f"{place}: cannot be {done}: {DEATHS} processes died of it ({why})"


class _Note:
    """What was begun of a piece of work, and how it ended, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._lines = Counter(path.read_text().splitlines())
        except FileNotFoundError:
            self._lines = Counter()

    def deaths(self, what: str) -> int:
        """How many processes have begun something and not lived to see how it ends."""
        return 0 if self.is_passed(what) else self._lines[what] - self._lines[_failed(what)]

    def is_passed(self, what: str) -> bool:
        """Whether one got to the end of something."""
        return self._lines[_passed(what)] > 0

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        """Write down that something is begun, at once and so for good, and how it ends; errors kill none."""
        self._add(what)
        try:
            yield
        except BaseException:
            self._add(_failed(what))
            raise
        self._add(_passed(what))

    def remove(self) -> None:
        """Forget all."""
        self._path.unlink(missing_ok=True)

    def _add(self, line: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"{line}\n")


def _passed(what: str) -> str:
    return f"{what} passed"


def _failed(what: str) -> str:
    return f"{what} failed"
