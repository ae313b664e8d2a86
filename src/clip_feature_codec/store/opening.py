"""Opening and making stores, of whatever kind."""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.names import PACKED_FILE, SHARDS, SHARDS_FOLDER
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.writing import WritableStore


def open_store(folder: Path) -> WritableStore:
    """Open the store in a folder; whoever writes to it does so inside `locking.exclusive`.

    Raises:
        StoreError: there is none, or what it needs is missing or unusable.
    """
    if is_packed(folder):
        from clip_feature_codec.store.packed import PackedStore

        return PackedStore.open(folder)
    return FeatureStore.open(folder)


def create_store(folder: Path, codec: FeatureCodec, *, packed: bool = False) -> WritableStore:
    """Make an empty store with ``codec``'s tables: a folder of streams, or a packed one."""
    if packed:
        from clip_feature_codec.store.packed import PackedStore

        return PackedStore.create(folder, codec)
    return FeatureStore.create(folder, codec)


def is_packed(folder: Path) -> bool:
    """Tell whether the store in a folder is a packed one."""
    return (folder / PACKED_FILE).is_file() or any((folder / SHARDS_FOLDER).glob(SHARDS))
