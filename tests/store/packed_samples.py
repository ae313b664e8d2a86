"""Packed stores to test with, small enough for a kill at every moment."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from search_samples import space, unit_vectors

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.store.packed import PackedStore
from clip_feature_codec.store.writing import NewPicture

Facts = list[tuple[str, str, bytes, int]]


def codec() -> FeatureCodec:
    return FeatureCodec.fit(unit_vectors(50, 99), space())


def streams(count: int, seed: int = 0) -> list[bytes]:
    return codec().encode(Layers(unit_vectors(count, seed), aspects=[4 / 3] * count))


def pictures(numbers: Iterable[int], changed: int = 0) -> list[NewPicture]:
    """Pictures that are not there, in three folders; ``changed`` is their time of modification."""
    return [NewPicture(f"d{i % 3}/p{i:05}.jpg", 4, 3, 1000 + i, changed) for i in numbers]


def add(store: PackedStore, numbers: Iterable[int], seed: int = 0, changed: int = 0) -> None:
    chosen = list(numbers)
    store.put(store.folder.parent / "photos", pictures(chosen, changed), streams(len(chosen), seed))


def facts(store: PackedStore) -> Facts:
    """All that a store says of its pictures, in order."""
    return [(e.name, e.source, store.blob(e), e.source_mtime_ns) for e in store.entries]


def rows_of_others(folder: Path) -> list[str]:
    """The names in all shards, as those read them who know nothing of us."""
    from pyarrow import parquet

    files = sorted((folder / "data").glob("*.parquet"))
    return [name for file in files for name in parquet.read_table(file)["name"].to_pylist()]
