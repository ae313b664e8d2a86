"""Search and duplicates in a packed store of made vectors: time, memory, growth, and whether it is exact.

    python benchmarks/search.py --count 1000000 --work FOLDER
    python benchmarks/search.py --count 1000000 --work FOLDER --duplicates

Vectors are drawn like those of a CLIP model: a common mean, clusters, channels of falling variance. Queries
are drawn like the vectors (pictures), or with most of their length away from all of these (words). The store
stays in FOLDER, and is used again by the next run.

Each measurement is a process of its own. Memory is told as the kernel counts it: RssAnon, what is the
process's own, and RssFile, the pages of mapped files that are in its page table, which the kernel may take
back at any moment; both less what they were when all modules had been imported. Queries have OpenBLAS on one
thread, as `clip-codec serve` does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.semantic.coarse import STAGES
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.names import CODEC_FILE, INDEX_FOLDER
from clip_feature_codec.store.opening import create_store, open_store
from clip_feature_codec.store.search.duplicates import DEFAULT_THRESHOLD, find_duplicates
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture, WritableStore

AT_ONCE = 10_000
COPIES = 0.01  # of the pictures: another's vector, slightly changed
QUERIES = ("pictures", "words")
MEMORY = {"own_mb": "RssAnon", "mapped_mb": "RssFile", "peak_mb": "VmHWM"}


def clip_like(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors with a mean cosine of about 0.5 between two, as real CLIP vectors have."""
    shared, rng = np.random.default_rng(0), np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1) ** -0.5)[shared.permutation(dim)]
    mean, clusters = shared.normal(size=dim), shared.normal(size=(max(1, dim * 2), dim)) * spectrum
    mean *= np.linalg.norm(spectrum) * 1.3 / np.linalg.norm(mean)
    vectors = mean + 0.7 * clusters[rng.integers(len(clusters), size=count)]
    vectors += 0.7 * spectrum * rng.normal(size=(count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def queries(kind: str, count: int, dim: int) -> NDArray[np.float32]:
    """Vectors to search with: like those of pictures, or as far from all of them as those of words."""
    like = clip_like(count, dim, 1_000_000_007)
    if kind == "pictures":
        return like
    away = np.random.default_rng(5).normal(size=(count, dim))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return (0.5 * like + 0.87 * away).astype(np.float32)


def made_store(folder: Path, count: int, dim: int) -> WritableStore:
    """A packed store of ``count`` streams, made if it is not there; gone on with if it is too small."""
    if not (folder / CODEC_FILE).exists():
        space = ClipSpace("synthetic", "none", "00" * 32, dim, {})
        create_store(folder, FeatureCodec.fit_klt([clip_like(20_000, dim, 1)], space), packed=True)
    store = open_store(folder)
    for first in range(len(store), count, AT_ONCE):
        add(store, first, min(AT_ONCE, count - first))
    store.finish()
    return store


def add(store: WritableStore, first: int, count: int) -> None:
    vectors = clip_like(count, store.codec.dim, 2 + first)
    copies = int(COPIES * count)
    vectors[count - copies :] = vectors[:copies] + np.float32(1e-3)
    pictures = [NewPicture(f"{i // 1000:04}/{i:07}.jpg", 4, 3, 1, 1) for i in range(first, first + count)]
    store.put(store.folder.parent / "photos", pictures, store.codec.encode(Layers(vectors), Rate(quality=50)))


def memory() -> dict[str, float]:
    status = Path("/proc/self/status").read_text("ascii")
    return {name: int(re.findall(rf"{key}:\s+(\d+)", status)[0]) / 1024 for name, key in MEMORY.items()}


class Watch:
    """The largest own and mapped memory of the process beyond what it was, looked at every 20 ms."""

    def __init__(self) -> None:
        self.before, self.most, self._over = memory(), dict.fromkeys(MEMORY, 0.0), False
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over:
            now = memory()
            self.most = {name: max(self.most[name], now[name] - self.before[name]) for name in MEMORY}
            time.sleep(0.02)

    def __enter__(self) -> dict[str, Any]:
        self._thread.start()
        self.found: dict[str, Any] = {}
        return self.found

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        self.found |= {name: round(value, 1) for name, value in self.most.items()}


def timed(found: dict[str, Any], name: str) -> Any:
    class Timer:
        def __enter__(self) -> None:
            self.began, self.processor = time.perf_counter(), time.process_time()

        def __exit__(self, *_: object) -> None:
            found[f"{name}_ms"] = round(1e3 * (time.perf_counter() - self.began), 2)
            found[f"{name}_processor_ms"] = round(1e3 * (time.process_time() - self.processor), 2)

    return Timer()


def measure(what: str, folder: Path, count: int) -> dict[str, Any]:
    """One measurement, in this process."""
    with Watch() as found:
        if what == "make":
            with timed(found, "index"):
                index = SearchIndex.open(open_store(folder))
            found["bytes_a_vector"] = round(_size(folder / INDEX_FOLDER) / max(1, len(index)), 1)
        elif what == "grow":
            add(open_store(folder), 10**7 + int(time.time()), 1000)
            with timed(found, "seal"):
                open_store(folder).finish()
            with timed(found, "index"):
                SearchIndex.open(open_store(folder))
        elif what == "duplicates":
            with timed(found, "all"):
                found["groups"] = len(
                    find_duplicates(SearchIndex.open(open_store(folder)), DEFAULT_THRESHOLD)
                )
        else:
            _search(what, folder, count, found)
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _search(kind: str, folder: Path, count: int, found: dict[str, Any]) -> None:
    with timed(found, "store_opened"):
        store = open_store(folder)
    with timed(found, "index_opened"):
        index = SearchIndex.open(store)
    wanted, times, processor = queries(kind, count, store.codec.dim), [], []
    with timed(found, "first"):
        index.nearest(wanted[0], 10)
    for query in wanted:
        began, used = time.perf_counter(), time.process_time()
        index.nearest(query, 10)
        times.append(1e3 * (time.perf_counter() - began))
        processor.append(1e3 * (time.process_time() - used))
    found |= {"median_ms": round(median(times), 2), "slowest_ms": round(max(times), 2)}
    found["median_processor_ms"] = round(median(processor), 2)


def left(folder: Path, count: int) -> dict[str, Any]:
    """How many vectors each stage of the coarse codes leaves, median and most of the queries of each kind."""
    index, found = SearchIndex.open(open_store(folder)), {}
    for kind in QUERIES:
        every = []
        for query in queries(kind, count, index.file.frame.dim):
            tenth = index.nearest(query, 10)[-1].cosine
            whole = index.file.frame.query(
                query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
            )
            stages = [replace(whole, stages=whole.stages[:number]) for number in range(1, STAGES + 1)]
            parts = [part for one in index.file.parts.values() for part in one.segments]
            every.append(
                [sum(len(s.scan(p.codes[: len(s.stages)], tenth)[0]) for p in parts) for s in stages]
            )
        found[kind] = {"median": np.median(every, axis=0).tolist(), "most": np.max(every, axis=0).tolist()}
    return found


def wrong(folder: Path, count: int) -> dict[str, Any]:
    """Cosines of the first ten that are not those of a search in float64 through all decoded vectors."""
    store = open_store(folder)
    index, entries = SearchIndex.open(store), store.entries
    wanted = np.concatenate([queries(kind, count, store.codec.dim) for kind in QUERIES])
    units = wanted.astype(np.float64) / np.linalg.norm(wanted.astype(np.float64), axis=1, keepdims=True)
    best = np.full((len(units), 10), -2.0)
    for first in range(0, len(entries), AT_ONCE):
        block = store.vectors(entries[first : first + AT_ONCE]).astype(np.float64)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        best = np.sort(np.hstack([best, units @ block.T]), axis=1)[:, :-11:-1]
    ours = np.array([[hit.cosine for hit in index.nearest(query, 10)] for query in wanted])
    return {"of": best.size, "wrong": int((np.abs(ours - best) > 1e-12).sum())}


def in_process(what: str, folder: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", what, "--work", str(folder), "--queries", str(count)]
    env = os.environ | ({"OPENBLAS_NUM_THREADS": "1"} if what in QUERIES else {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def steps(duplicates: bool, exact: bool) -> Iterator[str]:
    yield from ("make", *QUERIES, "left")
    if exact:
        yield "wrong"
    if duplicates:
        yield "duplicates"
    yield "grow"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--duplicates", action="store_true", help="also look for duplicates")
    parser.add_argument("--exact", action="store_true", help="also compare with all decoded vectors: slow")
    parser.add_argument("--only", help="one measurement, in this process; for the program")
    args = parser.parse_args()
    if args.only:
        work = {"left": left, "wrong": wrong}.get(args.only)
        found = work(args.work, args.queries) if work else measure(args.only, args.work, args.queries)
        print(json.dumps(found))
        return
    print(describe_machine())
    began = time.perf_counter()
    store = made_store(args.work, args.count, args.dim)
    print(
        f"{len(store)} streams, {args.dim} channels; made in {time.perf_counter() - began:.0f} s", flush=True
    )
    for step in steps(args.duplicates, args.exact):
        print(step, json.dumps(in_process(step, args.work, args.queries)), flush=True)


if __name__ == "__main__":
    main()
