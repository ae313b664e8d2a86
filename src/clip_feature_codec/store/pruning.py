"""Pictures that were deleted or moved: taken out of a store, or followed to where they are now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clip_feature_codec.errors import BitstreamError, StoreError
from clip_feature_codec.store.locking import exclusive
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.writing import WritableStore


def missing_pictures(store: Store) -> list[Entry]:
    """The entries whose pictures, or the archives that they lay in, are no longer where they were."""
    return [entry for entry in store.entries if store.is_missing(entry)]


def prune_store(folder: Path) -> list[Entry]:
    """Take the pictures that are missing out of a store, their streams included.

    Returns:
        The entries that were taken out.

    Raises:
        StoreError: there is no store, another process is writing to it, or all of its pictures are missing,
            as they are while a drive is not connected.
    """
    open_store(folder)  # where there is none, nothing is made for the lock
    with exclusive(folder):
        store = open_store(folder)
        missing = missing_pictures(store)
        if missing and len(missing) == len(store):
            raise StoreError(
                f"{folder}: none of its {len(store)} pictures is where it was: connect their drive, "
                "or remove the store as a whole"
            )
        store.forget_parts(missing)
        store.remove(missing)
        store.finish()
    return missing


def sync_store(store: WritableStore, img_dir: Path, pictures: Sequence[str]) -> tuple[int, int]:
    """Bring a store in line with a folder: follow what was moved in it, take out what was deleted.

    A picture that is missing and one that is new are the same when they have the same size and modification
    time, and no other picture has those.

    Args:
        store: the store, which nobody else writes to.
        img_dir: the folder; pictures that lay elsewhere are left alone.
        pictures: those in it, as paths inside it.

    Returns:
        How many were moved, and how many were taken out.
    """
    missing = {entry.name: entry for entry in store.entries_below(img_dir) if store.is_missing(entry)}
    moved = 0
    for entry, inside in list(_moves(store, img_dir, pictures, missing.values())) if missing else []:
        try:
            store.move(entry, img_dir, inside)
        except (BitstreamError, OSError):  # then it is one that was deleted and one that is new
            continue
        del missing[entry.name]
        moved += 1
    store.remove(list(missing.values()))
    return moved, len(missing)


def _moves(
    store: WritableStore, img_dir: Path, pictures: Sequence[str], missing: Iterable[Entry]
) -> Iterator[tuple[Entry, str]]:
    """Pairs of a missing picture's entry and the new path inside the folder."""
    lost: defaultdict[tuple[int, int], list[Entry]] = defaultdict(list)
    for entry in missing:
        lost[entry.source_bytes, entry.source_mtime_ns].append(entry)
    found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for inside in pictures:
        path = img_dir / inside
        if store.entry_of(path) is None and path.is_file():
            status = path.stat()
            found[status.st_size, status.st_mtime_ns].append(inside)
    for key, entries in lost.items():
        if len(entries) == len(found[key]) == 1:
            yield entries[0], found[key][0]
