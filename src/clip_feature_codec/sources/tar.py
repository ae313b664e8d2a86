"""Tars of pictures, as WebDataset makes them: read from the beginning to the end, a member at a time."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Self

from clip_feature_codec.images.formats import HEAD, READ_SUFFIXES, kind_of
from clip_feature_codec.places import place_in, safe_name
from clip_feature_codec.sources.part import ArchivePart, normal
from clip_feature_codec.sources.protocol import Notes, SourcePicture
from clip_feature_codec.sources.storage import open_file, why

LARGEST = 1 << 30
"""Bytes of the largest file that is taken for a picture: it has to be in memory."""
DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OverflowError)
"""What reading a damaged tar raises; anything else is taken for trouble on the way to it."""


class TarPart(ArchivePart):
    """The pictures of one tar."""

    def pictures(self, notes: Notes) -> Iterator[SourcePicture]:
        """Its pictures in order, each with its content; what follows a damaged place is lost."""
        seen: set[str] = set()
        place = self.file.place
        try:
            for name, size, stream in members(place, notes.skipped):
                content = _content(place_in(place, name), name, size, stream, notes)
                if content is None:
                    continue
                if name in seen:
                    reason = f"{place_in(place, name)}: the tar has this name twice: the first one is taken"
                    notes.failures.append((place_in(place, name), reason))
                    continue
                seen.add(name)
                inside = place_in(self.name, normal(name))
                yield SourcePicture(inside, place_in(place, name), size, self.file.mtime_ns, content)
        except DAMAGED as error:
            notes.failures.append((place, f"{place}: the tar is damaged from here on: {why(error)}"))
        except Exception as error:  # whatever a library of some provider raises  # noqa: BLE001
            notes.failures.append((place, f"{place}: cannot be read: {why(error)}"))
            notes.complete = False


class _Member(tarfile.TarInfo):
    """A member of a tar; what is neither its header nor the mark at the end is an error.

    tarfile itself takes anything else behind the first member for the end, and is silent about the rest.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf:
                raise tarfile.ReadError("the mark at the end is missing: it may have been cut off") from error
            if not any(buf):
                raise  # the mark
            raise tarfile.ReadError(f"found no header: {error}") from error


def members(place: str, skipped: Counter[str] | None = None) -> Iterator[tuple[str, int, IO[bytes]]]:
    """The files in a tar: names that lead nowhere else, sizes, and where each can be read before the next.

    Links have no content of their own; they are counted as ``skipped``.
    """
    # As a stream: nothing is sought for, and so it does not matter where it comes from or how it is packed.
    with open_file(place) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as archive:
        for member in archive:
            name, stream = safe_name(member.name), archive.extractfile(member) if member.isreg() else None
            if name and stream is not None and not any(part[0] == "." for part in name.split("/")):
                yield name, member.size, stream
            elif skipped is not None and (member.islnk() or member.issym()):
                skipped["links"] += 1
            archive.members = []  # type: ignore[attr-defined]  # or it keeps all that it has seen


def _content(place: str, name: str, size: int, stream: IO[bytes], notes: Notes) -> bytes | None:
    """What is in a picture's file; None of what is no picture, or too large for one."""
    ending = PurePosixPath(name).suffix.lower()
    head = stream.read(HEAD)
    if ending not in READ_SUFFIXES and kind_of(head) is None:
        notes.skipped[ending or "without an ending"] += 1
        return None
    if size > LARGEST:
        notes.failures.append(
            (place, f"{place}: found {size} bytes, expected a picture of at most {LARGEST}")
        )
        return None
    return head + stream.read()
