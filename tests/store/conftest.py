from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from packed_samples import codec
from search_samples import make_store, unit_vectors

from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.packed import PackedStore, packed_store, shards


@pytest.fixture(autouse=True, scope="session")
def no_power_cuts() -> Iterator[None]:
    """What is written is not waited for: these tests kill processes, not machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


@pytest.fixture
def searched(tmp_path: Path) -> FeatureStore:
    """A store with forty streams and no pictures."""
    return make_store(tmp_path / "store", unit_vectors(40))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of twelve rows, in groups of four."""
    monkeypatch.setattr(packed_store, "SHARD_ROWS", 12)
    monkeypatch.setattr(shards, "GROUP_ROWS", 4)


@pytest.fixture
def packed(tmp_path: Path) -> PackedStore:
    return PackedStore.create(tmp_path / "packed", codec())
