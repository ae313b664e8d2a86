"""Opening a store, of whatever kind."""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.protocol import Store


def open_store(folder: Path) -> Store:
    """Open the store in a folder, to read from it.

    Raises:
        StoreError: there is none, or what it needs is missing or unusable.
    """
    return FeatureStore.open(folder)
