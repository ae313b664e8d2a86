"""Bytes, fidelity and speed of the int8 profile on real CLIP vectors.

    python benchmarks/int8_rate.py --vectors vectors.npy --fit 800

The first FIT rows of the (N, D) array make the tables; the others are measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace

MEASURED_SECONDS = 1.0


def rate(work: Callable[[], object], count: int) -> float:
    """Vectors per second of ``work``, which handles ``count`` of them, over about a second."""
    work()
    rounds, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < MEASURED_SECONDS:
        work()
        rounds += 1
    return rounds * count / passed


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    result: NDArray[np.float64] = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes, fidelity and speed of the int8 profile.")
    parser.add_argument("--vectors", type=Path, required=True, help=".npy file of shape (N, D)")
    parser.add_argument("--fit", type=int, required=True, help="rows that make the tables")
    arguments = parser.parse_args()
    vectors = np.load(arguments.vectors).astype(np.float32)
    if not 0 < arguments.fit < len(vectors):
        parser.error(f"--fit: found {arguments.fit}, expected 1 to {len(vectors) - 1}")
    fitted, measured = vectors[: arguments.fit], vectors[arguments.fit :]

    space = ClipSpace("vectors", arguments.vectors.name, "unknown", vectors.shape[1], {})
    codec = FeatureCodec.fit(fitted, space)
    blobs = codec.encode(measured)
    sizes = [len(blob) for blob in blobs]
    found = cosines(measured, codec.decode(blobs))
    print(f"vectors    {len(fitted)} fitted, {len(measured)} measured, dimension {codec.dim}")
    print(f"bytes      min {min(sizes)}, mean {np.mean(sizes):.1f}, max {max(sizes)}")
    print(f"cosine     mean {found.mean():.6f}, worst {found.min():.6f}")
    print(f"encode     {rate(lambda: codec.encode(measured), len(measured)):,.0f} vectors/s")
    print(f"decode     {rate(lambda: codec.decode(blobs), len(blobs)):,.0f} vectors/s")


if __name__ == "__main__":
    main()
