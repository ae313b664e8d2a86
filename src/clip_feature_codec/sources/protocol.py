"""What a source of pictures is: parts, each read independently of the others, by whatever process.

A source lists its parts in an order that depends on nothing but what is there. A part gives its pictures in
order, one at a time, with their bytes or where those are. Whoever batches pictures does so within a part,
from its beginning: then the same vectors, and so the same streams, come out whatever process reads a part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A picture that a part has found; it has not been decoded.

    Attributes:
        name: its path inside the source, POSIX, one that leads nowhere else; its stream is named after it.
        place: where it is (see `places`); a path is absolute, or as seen from the current folder.
        size: of its file, in bytes.
        mtime_ns: what changes with it beside its size: the modification time of its file or archive, in
            nanoseconds since 1970; where a server tells none, a number made from its ETag.
        content: the picture's file; None where it is read from ``place`` (see `original.read_original`).
    """

    name: str
    place: str
    size: int
    mtime_ns: int
    content: bytes | None = field(default=None, repr=False)


@dataclass
class Notes:
    """What reading a part has met beside pictures.

    Attributes:
        failures: (place, reason) of pictures that cannot be had, and of archives that are damaged.
        skipped: how often what is no picture, by the endings of names.
        complete: whether the part was read to its end, or to where it is damaged; not so where reading may
            go better another time.
    """

    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    complete: bool = True


class Part(Protocol):
    """Some pictures of a source. It can be pickled, and is small: it says where they are."""

    @property
    def key(self) -> str:
        """Which part of which source; the same whenever it is listed."""

    @property
    def state(self) -> str:
        """Another one when what is in the part may have changed."""

    @property
    def count(self) -> int | None:
        """How many pictures it has, where that is known before it is read."""

    def pictures(self, notes: Notes) -> Iterator[SourcePicture]:
        """The pictures in order; no more than a few are in memory. What else is met goes to ``notes``."""


class Known(Protocol):
    """What is done already, for `Source.parts` to leave out."""

    def unknown(self, pictures: Iterable[SourcePicture]) -> Iterator[SourcePicture]:
        """The pictures that are not, as they are now, of all that a listing finds; in order."""

    def has_part(self, part: Part) -> bool:
        """Whether a part is, in its present state; asked of archives."""


class Source(Protocol):
    """Where pictures come from, as it was when it was listed by `opening.open_source`.

    Attributes:
        name: what it was called by whoever named it.
        root: the place that all of its pictures lie below.
        archived: whether they lie in archives, which have to be read to know what is in them.
        skipped: names of what was listed and is no picture.
        failures: (place, reason) of what could not be listed.
    """

    name: str
    root: str
    archived: bool
    skipped: list[str]
    failures: list[tuple[str, str]]

    def parts(self, size: int, known: Known | None = None) -> Iterator[Part]:
        """The parts with pictures that are not known yet, in order.

        Args:
            size: how many pictures make a part where each is a file of its own: some batches. A tar, or some
                row groups of a Parquet file, are a part whatever they hold.
            known: what to leave out; by default nothing.
        """

    def holds(self, place: str, mtime_ns: int) -> bool:
        """Whether a picture below `root` is still there, as far as the listing tells.

        Args:
            place: where it was.
            mtime_ns: what it had as `SourcePicture.mtime_ns` when it was last read.
        """
