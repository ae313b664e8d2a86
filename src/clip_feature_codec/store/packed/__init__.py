"""A packed store: streams in Parquet shards, and a small SQLite file for what is not sealed into one yet."""

from clip_feature_codec.store.packed.packed_store import PackedStore

__all__ = ["PackedStore"]
