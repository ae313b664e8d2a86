"""Stores of vectors to search in, and what a search must give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.names import INDEX_FOLDER
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture

DIM = 16


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def space(dim: int = DIM, weights: str = "ab") -> ClipSpace:
    return ClipSpace("test-model", weights, weights * 32, dim, {"size": [32, 32]})


def make_store(folder: Path, vectors: np.ndarray, start: int = 0) -> FeatureStore:
    """A store with a stream for each vector, or one that is there with these added from ``start`` on."""
    dim = vectors.shape[1]
    if (folder / "codec.json").exists():
        store = FeatureStore.open(folder)
    else:
        store = FeatureStore.create(folder, FeatureCodec.fit(unit_vectors(50, 99, dim), space(dim)))
    pictures = [NewPicture(f"p{start + i:04}.jpg", 4, 3, 1, 1) for i in range(len(vectors))]
    store.add(folder / "photos", pictures, Layers(vectors))
    return FeatureStore.open(folder)


def brute_force(store: FeatureStore, query: np.ndarray, count: int) -> list[tuple[str, float]]:
    """(name, cosine) of the nearest, in float64, from all decoded streams; of equal ones, the first added."""
    vectors = store.vectors().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = query.astype(np.float64)
    cosines = np.round((vectors * (exact / np.linalg.norm(exact))).sum(axis=1), 14)
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(store.entries[i].name, cosines[i]) for i in order]


def found(index: SearchIndex, query: np.ndarray, count: int) -> list[tuple[str, float]]:
    return [(hit.entry.name, hit.cosine) for hit in index.nearest(query, count)]


def assert_exact(index: SearchIndex, query: np.ndarray, count: int) -> None:
    """The very pictures of a search through all decoded vectors, in its order, with its cosines."""
    expected = brute_force(index.store, query, count)
    names, cosines = zip(*found(index, query, count), strict=True)
    assert list(names) == [name for name, _ in expected]
    assert cosines == pytest.approx([cosine for _, cosine in expected], abs=1e-13)


def index_bytes(store: FeatureStore) -> dict[str, bytes]:
    """All files of an index, by name."""
    return {path.name: path.read_bytes() for path in sorted((store.folder / INDEX_FOLDER).iterdir())}
