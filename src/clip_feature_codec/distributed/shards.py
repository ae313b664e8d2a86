"""Shards of packed stores, written by tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.store.packed import PackedStore
from clip_feature_codec.store.packed.bulk import BulkStore
from clip_feature_codec.store.packed.shards import write_shard
from clip_feature_codec.store.writing import WritableStore

if TYPE_CHECKING:
    import pyarrow

_DEATHS = 100


def bulk_writer(store: WritableStore) -> WritableStore:
    """A packed store whose shards are written by tasks; a store of another kind is given back."""
    return BulkStore(store.folder, store.codec, _write) if isinstance(store, PackedStore) else store


def _write(path: Path, table: pyarrow.Table, codec_id: str) -> None:
    """Have a task write a shard, whole or not at all; one that is lost is started again, so many times."""
    import ray

    task = ray.remote(max_retries=_DEATHS)(write_shard)
    ray.get(task.remote(path.resolve(), table, codec_id))
