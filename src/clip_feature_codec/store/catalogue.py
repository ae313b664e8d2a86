"""What a writer has to find in a store: entries by name and by picture, and the names that are still free."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from clip_feature_codec.places import is_url

if TYPE_CHECKING:
    from clip_feature_codec.store.manifest import Entry


class Catalogue(ABC):
    """Entries found by name and by picture; of names, the case does not count: some file systems know none.

    Args:
        folder: the store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real_folder = folder.resolve()
        self._source_folders: dict[str, str] = {}

    @abstractmethod
    def named(self, name: str) -> Entry | None:
        """The entry of a name."""

    @abstractmethod
    def of_source(self, source: str) -> Entry | None:
        """The entry of a picture, by its path as seen from the store."""

    @abstractmethod
    def after(self, entry: Entry | None) -> Iterator[Entry]:
        """The entries behind one, or all of them, in the order in which they were added."""

    def __contains__(self, name: str) -> bool:
        return self.named(name) is not None

    def of_picture(self, place: Path | str) -> Entry | None:
        """The entry of the picture at a place."""
        return self.of_source(self.source(place))

    def source(self, place: Path | str) -> str:
        """A picture's path as seen from the store, so that both can move together; absolute on another drive.

        Of links, those to folders are followed, but not the last one: two names in a folder are two pictures.
        A URL stays as it is.
        """
        if isinstance(place, str) and is_url(place):
            return place
        folder, name = os.path.split(place)
        if folder not in self._source_folders:  # once for each: following links takes its time
            real = Path(folder).resolve()
            # No way leads to another drive.
            with suppress(ValueError):
                real = Path(os.path.relpath(real, self._real_folder))
            self._source_folders[folder] = str(PurePosixPath(real.as_posix(), "x"))[:-1]
        return self._source_folders[folder] + name

    def free_name(self, inside: str, first_choice: str | None = None, given_up: str | None = None) -> str:
        """A name for ``a/x.jpg``: ``a/x``, or when that is taken ``a/x.jpg``, then ``a/x.jpg~2`` and so on.

        A folder called ``y.clp`` becomes ``y.clp~``, to leave that name to the stream of ``y.jpg``.

        Args:
            inside: the picture's path inside the folder that it is added from.
            first_choice: what is tried before.
            given_up: a name that is free, too, since its picture gets another.
        """
        freed = None if given_up is None else given_up.casefold()
        candidates = chain([first_choice] if first_choice else [], _names_for(PurePosixPath(inside)))
        return next(name for name in candidates if name.casefold() == freed or name not in self)


def _names_for(inside: PurePosixPath) -> Iterator[str]:
    """The names that a picture may have, the best first."""
    if ".clp/" in str(inside).casefold():
        folders = (f"{part}~" if part.casefold().endswith(".clp") else part for part in inside.parts[:-1])
        inside = PurePosixPath(*folders, inside.name)
    yield str(inside.with_suffix(""))
    yield str(inside)
    yield from (f"{inside}~{i}" for i in count(2))


def growing(limit: int) -> Iterator[int]:
    """How many to read at once, of what may not be wanted to its end: 1, 4, 16, and so on up to a limit."""
    count = 1
    while True:
        yield count
        count = min(4 * count, limit)


class InTurn(Catalogue):
    """A catalogue that is asked for pictures in the order in which they were added, or nearly.

    Then the next one is the one that is asked for: entries are read one after the other, and nothing has to
    be looked up. What is put into the catalogue meanwhile may go unseen.

    Args:
        behind: the catalogue.
    """

    def __init__(self, behind: Catalogue) -> None:
        super().__init__(behind.folder)
        self._behind, self._rest = behind, behind.after(None)
        self._next = next(self._rest, None)

    def named(self, name: str) -> Entry | None:
        """The entry of a name."""
        return self._behind.named(name)

    def of_source(self, source: str) -> Entry | None:
        """The entry of a picture, by its path as seen from the store."""
        found = self._next
        if found is None or found.source != source:
            found = self._behind.of_source(source)
            if found is None:
                return None
            self._rest = self._behind.after(found)
        self._next = next(self._rest, None)
        return found

    def after(self, entry: Entry | None) -> Iterator[Entry]:
        """The entries behind one, or all of them, in the order in which they were added."""
        return self._behind.after(entry)
