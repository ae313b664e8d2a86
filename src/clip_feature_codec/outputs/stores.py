"""What is known of stores from their manifests alone: no stream is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.names import CODEC_FILE, has_pictures
from clip_feature_codec.places import is_url, split_archive

if TYPE_CHECKING:
    from clip_feature_codec.store.manifest import Entry


def is_store(folder: Path) -> bool:
    """Tell whether a folder is a store with pictures."""
    return (folder / CODEC_FILE).is_file() and has_pictures(folder)


def store_of(path: Path) -> Path | None:
    """Give the store that a path is, or lies in."""
    real = path.resolve()
    return next(filter(is_store, (real, *real.parents)), None)


def is_stream_of(store: Path, path: Path) -> bool:
    """Tell whether a store's manifest names this file in it."""
    real = path.resolve()
    name = real.relative_to(store.resolve()).with_suffix("").as_posix()
    from clip_feature_codec.store.opening import open_store

    return real.suffix.casefold() == ".clp" and open_store(store).named(name) is not None


def sources_of(store: Path) -> Iterator[Path]:
    """Give the files that a store was made from: pictures, and archives of pictures."""
    last = ""
    for entry in _entries(store):
        place = split_archive(entry.source)[0]
        if place != last and not is_url(place):
            yield store / place
        last = place


def decoded_from(store: Path, folder: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """Give the files in a folder that the pictures of a store, or those of some names, take the place of.

    What the same stream became there before is none: it can be made again.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    from clip_feature_codec.images import note_of

    for entry in _entries(store, names):
        path = folder / f"{entry.name}.png"
        there = os.path.exists(path)  # noqa: PTH110 (of a name that no file can have, `Path` raises an error)
        if there and not note_of(path).startswith(f"{entry.sha256} "):
            yield path


def foreign(folder: Path) -> list[str]:
    """List what lies in a folder that is to become a store; nothing where it is one already.

    A store whose first run was interrupted has its tables or hidden files, and no manifest yet.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if CODEC_FILE in names and (has_pictures(folder) or ".lock" in names):
        return []
    return [name for name in names if not name.startswith(".") and name != CODEC_FILE]


def _entries(store: Path, names: Sequence[str] = ()) -> Iterable[Entry]:
    """The entries of a store, or those of some names."""
    from clip_feature_codec.store.opening import open_store

    opened = open_store(store)
    return filter(None, map(opened.named, names)) if names else opened.entries
