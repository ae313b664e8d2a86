"""Exact search and duplicates among coded vectors: time, memory and what is proven, beside faiss flat.

    python benchmarks/search.py --count 100000 --dim 512

Vectors are drawn like those of a CLIP model: a common mean, clusters, channels of falling variance. faiss
flat on the decoded vectors in float32 and the index run in turns, one query at a time, in one process.
Streams come from memory, and `SearchIndex.nearest` decodes those it needs.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import faiss
import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.names import INDEX_FILE
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry, stream_hash
from clip_feature_codec.store.search.duplicates import DEFAULT_THRESHOLD, find_duplicates
from clip_feature_codec.store.search.index_file import IndexFile
from clip_feature_codec.store.search.indexing import updated_index
from clip_feature_codec.store.search.nearest import SearchIndex

ROWS_AT_ONCE = 16_384


class MemoryStore(FeatureStore):
    """A store whose streams are in memory."""

    def __init__(self, folder: Path, codec: FeatureCodec, blobs: list[bytes]) -> None:
        self.blobs = {f"{i}": blob for i, blob in enumerate(blobs)}
        self._entries = [
            Entry(name, name, stream_hash(blob), len(blob), 1, 1, 1, 1) for name, blob in self.blobs.items()
        ]
        super().__init__(folder, codec)

    @property
    def entries(self) -> list[Entry]:  # type: ignore[override]
        """One for each stream."""
        return self._entries

    def fetch(self, entry: Entry) -> bytes:
        """An entry's stream."""
        return self.blobs[entry.name]


def clip_like(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors with a mean cosine of about 0.5 between two, as real CLIP vectors have."""
    shared, rng = np.random.default_rng(0), np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1) ** -0.5)[shared.permutation(dim)]
    mean, clusters = shared.normal(size=dim), shared.normal(size=(max(1, dim * 2), dim)) * spectrum
    mean *= np.linalg.norm(spectrum) * 1.3 / np.linalg.norm(mean)
    vectors = np.empty((count, dim), np.float32)
    for first in range(0, count, ROWS_AT_ONCE):
        n = min(ROWS_AT_ONCE, count - first)
        block = mean + 0.7 * clusters[rng.integers(len(clusters), size=n)]
        block += 0.7 * spectrum * rng.normal(size=(n, dim))
        vectors[first : first + n] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def exact_nearest(
    vectors: NDArray[np.float32], query: NDArray[np.float32], count: int
) -> NDArray[np.float64]:
    """The highest cosines, in float64."""
    unit = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    cosines = []
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[first : first + ROWS_AT_ONCE].astype(np.float64)
        cosines.append(block @ unit / np.linalg.norm(block, axis=1))
    return np.sort(np.concatenate(cosines))[::-1][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description="Exact search among coded vectors, beside faiss flat.")
    parser.add_argument("--count", type=int, default=100_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("-k", type=int, default=10, help="results of each query")
    parser.add_argument("--duplicates", action="store_true", help="also look for duplicates")
    args = parser.parse_args()
    print(describe_machine())
    sample = clip_like(min(args.count, 20_000), args.dim, 1)
    codec = FeatureCodec.fit(sample, ClipSpace("synthetic", "none", "00" * 32, args.dim, {}))
    blobs: list[bytes] = []
    for first in range(0, args.count, ROWS_AT_ONCE):
        blobs += codec.encode(Layers(clip_like(min(ROWS_AT_ONCE, args.count - first), args.dim, 2 + first)))
    with tempfile.TemporaryDirectory() as folder:
        store = MemoryStore(Path(folder), codec, blobs)
        measure(store, args)


def measure(store: MemoryStore, args: argparse.Namespace) -> None:
    print(
        f"{args.count} vectors, {args.dim} channels, {args.k} results, {faiss.omp_get_max_threads()} threads"
    )
    print(f"index made anew         {seconds(lambda: updated_index(store)):8.2f} s")
    path = store.folder / INDEX_FILE
    print(f"index file              {path.stat().st_size / args.count:8.1f} bytes a vector")
    print(f"file read and checked   {seconds(lambda: IndexFile.load(path)):8.2f} s")
    index = SearchIndex.open(store)
    queries = clip_like(args.queries, args.dim, 1_000_000_007)
    print(f"first search            {seconds(lambda: index.nearest(queries[0], args.k)):8.2f} s")
    decoded = store.vectors()
    flat = faiss.IndexFlatIP(args.dim)
    flat.add(decoded)
    ours, theirs, wrong = [], [], 0
    for query in queries:
        theirs.append(seconds(lambda q=query: flat.search(q[None], args.k)))  # type: ignore[misc]
        ours.append(seconds(lambda q=query: index.nearest(q, args.k)))  # type: ignore[misc]
    for query in queries[:10]:
        found = np.array([hit.cosine for hit in index.nearest(query, args.k)])
        wrong += int((np.abs(found - exact_nearest(decoded, query, args.k)) > 1e-12).sum())
    print(f"faiss flat, float32     {1e3 * median(theirs):8.2f} ms a query")
    print(f"SearchIndex.nearest     {1e3 * median(ours):8.2f} ms a query, slowest {1e3 * max(ours):.2f}")
    print(f"search ratio: {median(theirs) / median(ours):.2f} times as fast as faiss flat")
    print(f"results that differ from a float64 search through all: {wrong} of {10 * args.k}")
    if args.duplicates:
        took = seconds(lambda: find_duplicates(index, DEFAULT_THRESHOLD))
        print(f"duplicates              {took:8.1f} s, threshold {DEFAULT_THRESHOLD}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory          {memory:8.2f} GiB, with all that the benchmark holds")


if __name__ == "__main__":
    main()
