"""The entries of a folder store, found by name and by picture, and the names that are still free."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, count
from pathlib import Path, PurePosixPath

from clip_feature_codec.store.manifest import Entry


class Catalogue:
    """What is in a store, in memory; names are compared without case, since some file systems know no other.

    Args:
        folder: the store's folder.
        entries: what is in it.
    """

    def __init__(self, folder: Path, entries: Iterable[Entry]) -> None:
        self._real_folder = folder.resolve()
        self._source_folders: dict[Path, str] = {}
        self._by_name: dict[str, Entry] = {}
        self._by_source: dict[str, Entry] = {}
        for entry in entries:
            self.put(entry)

    @property
    def entries(self) -> list[Entry]:
        """One per picture, in the order in which they were first put in."""
        return list(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._by_name

    def put(self, entry: Entry) -> None:
        """Put an entry in, in the place of the one that had its name."""
        self._by_name[entry.name.casefold()] = entry
        self._by_source[entry.source] = entry

    def drop(self, entry: Entry) -> None:
        """Take an entry out."""
        del self._by_name[entry.name.casefold()]
        if self._by_source.get(entry.source) == entry:
            del self._by_source[entry.source]

    def named(self, name: str) -> Entry | None:
        """The entry of a name."""
        return self._by_name.get(name.casefold())

    def of_picture(self, path: Path) -> Entry | None:
        """The entry of the picture at a path."""
        return self._by_source.get(self.source(path))

    def source(self, path: Path) -> str:
        """A picture's path as seen from the store, so that both can move together; absolute on another drive.

        Of links, those to folders are followed, but not the last one: two names in a folder are two pictures.
        """
        folder = path.parent
        if folder not in self._source_folders:  # once for each: following links takes its time
            real = folder.resolve()
            # No way leads to another drive.
            with suppress(ValueError):
                real = Path(os.path.relpath(real, self._real_folder))
            self._source_folders[folder] = real.as_posix()
        return str(PurePosixPath(self._source_folders[folder], path.name))

    def free_name(self, inside: PurePosixPath, first_choice: str | None = None) -> str:
        """A name for ``a/x.jpg``: ``a/x``, or when that is taken ``a/x.jpg``, then ``a/x.jpg~2`` and so on.

        A folder called ``y.clp`` becomes ``y.clp~``, to leave that name to the stream of ``y.jpg``.

        Args:
            inside: the picture's path inside the folder that it is added from.
            first_choice: what is tried before.
        """
        folders = (f"{part}~" if part.casefold().endswith(".clp") else part for part in inside.parent.parts)
        inside = PurePosixPath(*folders, inside.name)
        candidates = chain(
            [first_choice] if first_choice else [],
            [str(inside.with_suffix("")), str(inside)],
            (f"{inside}~{i}" for i in count(2)),
        )
        return next(name for name in candidates if name not in self)
