"""Pairs of near vectors among all: how the cost grows, and how hard made vectors are beside real ones.

    python benchmarks/duplicates.py --work FOLDER --real VECTORS.npy --sizes 10000 100000 1000000

Vectors of three kinds, since nobody has a million real ones at hand:

- clusters: those of benchmarks/search.py;
- photographs: around real vectors (--real, unit length, one a row), with noise of their covariance, so that
  all have their mean and their covariance;
- crowds: each of a hundred alike, all of whose pairs are results.

The cost depends on how many pairs cannot be told apart along a few axes: their share is printed for 1,000
vectors of each kind and for the real ones. Vectors lie in FOLDER as an index has them; no streams are made,
so that opening a store and looking up names are not measured (benchmarks/search.py does). Each measurement
is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.progress import silent
from clip_feature_codec.store.search.duplicates import DEFAULT_THRESHOLD
from clip_feature_codec.store.search.pairs import close_pairs
from search import Watch, clip_like, timed

AT_ONCE = 20_000
NOISE = 0.42  # of a photograph's vector, in parts of its length
FINE = 32767
AXES = (8, 16, 32, 64, 191)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def drawn(kind: str, count: int, seed: int, real: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Unit vectors of a kind, (count, D)."""
    rng = np.random.default_rng(seed)
    if kind == "crowds":
        alike = np.repeat(clip_like(-(-count // 100), 512, seed), 100, axis=0)[:count]
        return unit(alike + 0.1 / np.sqrt(512) * rng.normal(size=alike.shape))
    if kind == "clusters" or real is None:
        return unit(clip_like(count, 512, seed).astype(np.float64))
    mean = real.mean(axis=0)
    centred = real - mean
    noise = rng.normal(size=(count, len(real))) @ centred / np.sqrt(len(real))
    centres = centred[rng.integers(len(real), size=count)]
    return unit(mean + np.sqrt(1 - NOISE**2) * centres + NOISE * noise)


class Index(SimpleNamespace):
    """What `close_pairs` asks of a search index, of int16 vectors (N, D) in a file."""

    def __init__(self, path: Path, count: int) -> None:
        self.vectors = np.memmap(path, np.int16, "r").reshape(-1, 512)[:count]
        self.store = SimpleNamespace(codec=SimpleNamespace(dim=512))
        self.fine_error = np.sqrt(512) * 0.5001 / FINE + 528 * 2.0**-23

    def fine(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The vectors of rows (n,), nearly: float32 (n, D)."""
        return self.vectors[rows].astype(np.float32) / np.float32(FINE)

    def decode_rows(self, rows: NDArray[np.intp]) -> tuple[dict[int, Any], NDArray[np.float64]]:
        """Those of ascending rows (n,), without entries: float64 (n, D)."""
        return dict.fromkeys(rows.tolist()), unit(self.vectors[rows].astype(np.float64))


def write(kind: str, count: int, path: Path, real: NDArray[np.float64] | None) -> None:
    with path.open("wb") as file:
        for first in range(0, count, AT_ONCE):
            vectors = drawn(kind, min(AT_ONCE, count - first), 2 + first, real)
            file.write(np.rint(vectors * FINE).astype(np.int16).tobytes())


def hardness(vectors: NDArray[np.float64]) -> str:
    """A row of a table: cosines, and the pairs that are within reach along so many principal axes."""
    above = np.triu_indices(len(vectors), 1)
    cosines = (vectors @ vectors.T)[above]
    centred = vectors - vectors.mean(axis=0)
    turned = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    cells = [f"{cosines.mean():.2f} ± {cosines.std():.2f}", f"{np.quantile(cosines, 0.9999):.2f}"]
    for count in AXES:
        heads = turned[:, :count]
        squares = np.square(heads).sum(axis=1)
        near = squares[:, None] + squares - 2 * heads @ heads.T <= 2 - 2 * DEFAULT_THRESHOLD
        cells.append(f"{near[above].mean():.1e}")
    return " | ".join(cells)


def measure(path: Path, count: int) -> dict[str, Any]:
    with Watch() as found, timed(found, "all"):
        index, rows = Index(path, count), np.arange(count)
        pairs = close_pairs(index, rows, DEFAULT_THRESHOLD, silent)  # type: ignore[arg-type]
        found["pairs"] = sum(len(left) for left, _, _ in pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="vectors of pictures, .npy")
    parser.add_argument("--kinds", nargs="+", default=["clusters", "photographs", "crowds"])
    parser.add_argument("--only", type=int, help="one measurement, in this process; for the program")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.work, args.only)))
        return
    print(describe_machine())
    real = unit(np.load(args.real).astype(np.float64)) if args.real else None
    kinds = [kind for kind in args.kinds if kind != "photographs" or real is not None]
    heads = " | ".join(f"near by {count} axes" for count in AXES)
    print(f"| 1,000 vectors | cosines | 1 in 10,000 above | {heads} |")
    print("|---" * (3 + len(AXES)) + "|")
    if real is not None:
        print(f"| real | {hardness(real[:1000])} |")
    for kind in kinds:
        print(f"| {kind} | {hardness(drawn(kind, 1000, 1, real))} |", flush=True)
    args.work.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        path = args.work / f"{kind}.int16"
        write(kind, max(args.sizes), path, real)
        for size in args.sizes:
            command = [sys.executable, __file__, "--only", str(size), "--work", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(kind, size, done.stdout.strip(), flush=True)
        path.unlink()


if __name__ == "__main__":
    main()
