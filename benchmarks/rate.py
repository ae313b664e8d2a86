"""Bytes, fidelity and recall of CLIP vector codecs, ours and the usual ones, side by side.

    python benchmarks/rate.py --data flickr.npy --fit 800 --data mini.npy --fit 50000 --plot rate.svg

Each split fits every codec on FIT random rows of the (N, D) array and measures it on up to LIMIT others.
Bytes are those of a file for ours, 6 bytes of header included, and of the bare code for faiss, without one.
Recall@10: of the ten vectors nearest to an original vector, by exact cosine among the other measured
originals, the share that is among the ten nearest once those others have been through the codec.
With --words, vectors of texts of the same model, tables are also fitted for every second of them
(`fit --queries`), and the share of the first ten is shown that stay for the other half, not fitted on.
The bound is the rate-distortion function of Gaussian coefficients whose variances are those of the measured
vectors themselves in the fitted basis: a codec that adapts to each vector can fall below it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.semantic.int8 import Int8Coder
from clip_feature_codec.codec.semantic.klt import KltCoder
from clip_feature_codec.codec.semantic.klt_block import UNIT_BITS
from clip_feature_codec.evaluate.provenance import describe_machine

HEADER = 6
SPLITS = 5
STEPS = range(160, 64, -4)
WORD_BUDGETS = (30, 64)
BUDGETS = (64, 112, 122, 140, 165, 222, 340)
TARGET = 0.99
SPEED_VECTORS = 4000

Vectors = NDArray[np.float32]
Result = tuple[float, Vectors]  # bytes of a vector on average, decoded vectors
Row = tuple[float, float, float, float]  # bytes, mean cosine, worst cosine, recall@10


def normalised(vectors: NDArray[np.float32]) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def cosines(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    result: NDArray[np.float64] = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    return result


def nearest(queries: Vectors, database: Vectors) -> NDArray[np.int64]:
    """The ten rows of ``database`` nearest to each query, the query's own row left out."""
    scores = queries @ database.T
    np.fill_diagonal(scores, -np.inf)
    ten: NDArray[np.int64] = np.argpartition(-scores, 10, axis=1)[:, :10]
    return ten


def recall(measured: Vectors, decoded: Vectors) -> float:
    found, exact = nearest(measured, normalised(decoded)), nearest(measured, measured)
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]))


def evaluated(measured: Vectors, result: Result) -> Row:
    size, decoded = result
    found = cosines(measured, decoded)
    return size, float(found.mean()), float(found.min()), recall(measured, decoded)


def int8_zstd(fitted: Vectors, measured: Vectors) -> Result:
    coder = Int8Coder(AffineQuantizer.fit(fitted))
    payloads = coder.encode_to_bytes(measured, np.full(len(measured), 1 << 16))
    return HEADER + float(np.mean([len(payload) for payload in payloads])), coder.decode(payloads)


def by_faiss(index: faiss.Index, fitted: Vectors, measured: Vectors) -> Result:
    """A faiss codec on vectors whose mean is removed, which helps it."""
    mean = fitted.mean(axis=0)
    index.train(fitted - mean)
    codes = index.sa_encode(measured - mean)
    return float(codes.shape[1]), index.sa_decode(codes) + mean


def faiss_codecs(dim: int, fitted: int) -> Iterator[tuple[str, faiss.Index]]:
    """The codecs that are tried, at several sizes; product quantisers with codebooks the sample can train."""
    for bits in (8, 6, 4):
        yield (
            f"faiss SQ{bits}",
            faiss.IndexScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, f"QT_{bits}bit")),
        )
    for bits in (8, 4):
        for size in (16, 32, 64, 128, 256):
            parts = size * 8 // bits
            if dim % parts or fitted < 2 << bits:
                continue
            plain = faiss.IndexPQ(dim, parts, bits)
            plain.pq.cp.min_points_per_centroid = 1
            yield f"faiss PQ, {bits} bits", plain
            if dim // parts > 1:
                inner = faiss.IndexPQ(dim, parts, bits)
                inner.pq.cp.min_points_per_centroid = 1
                rotation = faiss.OPQMatrix(dim, parts)
                rotation.niter = 15
                rotation.pq = faiss.ProductQuantizer(dim, parts, bits)
                rotation.pq.cp.min_points_per_centroid = 1
                yield f"faiss OPQ+PQ, {bits} bits", faiss.IndexPreTransform(rotation, inner)


def rabitq(bits: int, fitted: Vectors, measured: Vectors) -> Row:
    """RaBitQ: its own distance estimates find neighbours; faiss decodes no more than the first bit."""
    dim, mean = fitted.shape[1], fitted.mean(axis=0)
    turned = faiss.RandomRotationMatrix(dim, dim)
    turned.init(7)
    index = faiss.IndexPreTransform(turned, faiss.IndexRaBitQ(dim, faiss.METRIC_L2, bits))
    index.train(fitted - mean)
    index.add(measured - mean)
    found = [row[row != own][:10] for own, row in enumerate(index.search(measured - mean, 11)[1])]
    exact = nearest(measured, measured)
    recalled = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])
    cosine = worst = float("nan")
    if bits == 1:
        close = cosines(measured, index.sa_decode(index.sa_encode(measured - mean)) + mean)
        cosine, worst = float(close.mean()), float(close.min())
    return float(index.sa_code_size()), cosine, worst, float(recalled)


def ours(payloads: list[bytes], transform: KltCoder) -> Result:
    return HEADER + float(np.mean([len(payload) for payload in payloads])), transform.decode(payloads)


def bound(transform: KltCoder, measured: Vectors, cosine: float) -> float:
    """Bytes of the Gaussian rate-distortion function at a distortion of 1 - cosine^2 (module docstring).

    Reverse water-filling: R = sum max(0, log2(v / w) / 2) at D = sum min(v, w) (Cover and Thomas, 10.3.3).
    """
    offsets = measured - transform.mean / 2.0**UNIT_BITS
    variances = np.square(offsets @ (transform.basis / 2.0**UNIT_BITS).T).mean(axis=0)
    low, high = 1e-15, float(variances.max())
    for _ in range(100):
        level = np.sqrt(low * high)
        low, high = (low, level) if np.minimum(variances, level).sum() > 1 - cosine**2 else (level, high)
    return float(np.maximum(0, np.log2(variances / low) / 2).sum() / 8)


def rate(work: Callable[[], object], count: int) -> float:
    """Vectors per second of processor time; the best of three."""
    seconds = []
    for _ in range(3):
        begun = time.thread_time()
        work()
        seconds.append(time.thread_time() - begun)
    return count / min(seconds)


def at_target(rows: list[Row], column: int, target: float) -> float:
    """Bytes where a column of rows reaches the target; between two, linear in the log of what is missing."""
    points = sorted((row[0], row[column]) for row in rows if not np.isnan(row[column]))
    for (small, low), (large, high) in pairwise(points):
        if low < target <= high:
            missing = np.log([1 - low, 1 - target, max(1e-6, 1 - high)])
            return float(small + (large - small) * (missing[0] - missing[1]) / (missing[0] - missing[2]))
    return points[0][0] if points and points[0][1] >= target else float("nan")


def one_split(fitted: Vectors, measured: Vectors) -> dict[str, list[Row]]:
    """Rows of every codec, by its name."""
    rows: dict[str, list[Row]] = defaultdict(list)
    rows["int8 + zstd"].append(evaluated(measured, int8_zstd(fitted, measured)))
    for name, index in faiss_codecs(fitted.shape[1], len(fitted)):
        rows[name].append(evaluated(measured, by_faiss(index, fitted, measured)))
    rows["faiss RaBitQ"] = [rabitq(bits, fitted, measured) for bits in (1, 2, 3, 4, 6, 8)]
    transform = KltCoder.fit(fitted)
    for step in STEPS:
        payloads = transform.encode(measured, np.full(len(measured), step))
        rows["ours"].append(evaluated(measured, ours(payloads, transform)))
    for budget in BUDGETS:
        payloads = transform.encode_to_bytes(measured, np.full(len(measured), budget - HEADER))
        rows["ours, bytes limited"].append(evaluated(measured, ours(payloads, transform)))
    payloads = transform.encode_to_cosine(measured, TARGET)
    rows["ours, each cosine 0.99"].append(evaluated(measured, ours(payloads, transform)))
    for row in rows["ours"]:
        size = bound(transform, measured, row[1])
        rows["Gaussian bound"].append((size, row[1], float("nan"), float("nan")))
    return rows


def print_speed(transform: KltCoder, unit: Vectors) -> None:
    """Speed of ours near the target, in one thread."""
    many = unit[np.arange(SPEED_VECTORS) % len(unit)]
    step = min(
        (s for s in range(160, 60, -1)),
        key=lambda s: abs(
            cosines(unit, transform.decode(transform.encode(unit, np.full(len(unit), s)))).mean() - TARGET
        ),
    )
    steps = np.full(len(many), step)
    payloads = transform.encode(many, steps)
    few = many[: SPEED_VECTORS // 10]
    limits = np.full(len(few), 116)
    print(f"speed, in vectors a second of processor time, step byte {step}:")
    print(f"  encode                {rate(lambda: transform.encode(many, steps), len(many)):10,.0f}")
    print(f"  encode, 116 bytes     {rate(lambda: transform.encode_to_bytes(few, limits), len(few)):10,.0f}")
    print(f"  encode, cosine 0.99   {rate(lambda: transform.encode_to_cosine(few, TARGET), len(few)):10,.0f}")
    print(f"  decode                {rate(lambda: transform.decode(payloads), len(many)):10,.0f}")


def kept(queries: Vectors, measured: Vectors, decoded: Vectors) -> float:
    """Of the ten measured vectors nearest to a query, the share that stays among the ten when decoded."""
    exact, found = (np.argsort(-(queries @ rows.T), axis=1)[:, :10] for rows in (measured, decoded))
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]))


def print_words(fitted: Vectors, measured: Vectors, words: Vectors) -> None:
    """What of the first ten stays for words that tables were not fitted for, and for pictures."""
    print(f"{'tables':26}{'bytes':>9}{'mean cosine':>13}{'words':>9}{'pictures':>11}")
    for name, queries in (("plain", None), ("for queries", words[::2])):
        coder = KltCoder.fit(fitted, queries)
        for size in WORD_BUDGETS:
            payloads = coder.encode_to_bytes(measured, np.full(len(measured), size - HEADER))
            decoded = coder.decode(payloads)
            mean, stay = float(cosines(measured, decoded).mean()), kept(words[1::2], measured, decoded)
            print(f"{name:26}{size:9d}{mean:13.5f}{stay:9.3f}{recall(measured, decoded):11.3f}")


def measured_rows(vectors: Vectors, fit: int, limit: int, splits: int) -> dict[str, list[Row]]:
    """Means over random splits; the worst cosine is the worst of all."""
    collected: dict[str, list[list[Row]]] = defaultdict(list)
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(vectors))
        rows = one_split(vectors[order[:fit]], vectors[order[fit : fit + limit]])
        for name, found in rows.items():
            collected[name].append(found)
    means: dict[str, list[Row]] = {}
    for name, tables in collected.items():
        table = np.array(tables)
        worst = table[:, :, 2].min(axis=0)
        mean = table.mean(axis=0)
        mean[:, 2] = worst
        means[name] = [(float(a), float(b), float(c), float(d)) for a, b, c, d in mean]
    return means


def print_rows(rows: dict[str, list[Row]]) -> None:
    print(f"{'codec':26}{'bytes':>9}{'mean cosine':>13}{'worst':>9}{'recall@10':>11}")
    for name, found in rows.items():
        for size, mean, worst, recalled in found:
            print(f"{name:26}{size:9.1f}{mean:13.5f}{worst:9.4f}{recalled:11.3f}")
    print()
    print(f"{'at':26}{'cosine 0.99':>13}{'recall 0.95':>13}   (bytes, between the rows above)")
    for name, found in rows.items():
        if name != "ours, each cosine 0.99":
            print(f"{name:26}{at_target(found, 1, 0.99):13.1f}{at_target(found, 3, 0.95):13.1f}")


def plot(results: dict[str, dict[str, list[Row]]], path: Path) -> None:
    """One row of panels a data set: distance over bytes, and recall over bytes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "rate"})
    figure, axes = pyplot.subplots(len(results), 2, figsize=(9, 3.6 * len(results)), squeeze=False)
    for (left, right), (name, rows) in zip(axes, results.items(), strict=True):
        for codec, found in rows.items():
            if codec.startswith("ours,"):
                continue
            points = np.array(sorted(found))
            style = {"color": "black", "linewidth": 2.2} if codec == "ours" else {"linewidth": 1}
            marker = "" if len(points) > 8 else "o"
            dashes = "--" if codec == "Gaussian bound" else "-"
            left.plot(
                points[:, 0], 1 - points[:, 1], dashes, marker=marker, markersize=3, label=codec, **style
            )
            if not np.isnan(points[:, 3]).all():
                right.plot(points[:, 0], points[:, 3], dashes, marker=marker, markersize=3, **style)
        left.set(yscale="log", xscale="log", xlabel="bytes of a vector", ylabel="1 - mean cosine", title=name)
        right.set(xscale="log", xlabel="bytes of a vector", ylabel="recall@10", title=name)
        for panel in (left, right):
            panel.set_xlim(12, 600)
            panel.set_xticks([16, 32, 64, 128, 256, 512], ["16", "32", "64", "128", "256", "512"])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
        left.legend(fontsize=6.5)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True, help=".npy file of shape (N, D)")
    parser.add_argument(
        "--fit", type=int, action="append", required=True, help="rows that each split fits on"
    )
    parser.add_argument("--limit", type=int, default=2000, help="rows that each split measures, at most")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument(
        "--words", type=Path, action="append", help="one for each --data: .npy file of texts' vectors (M, D)"
    )
    parser.add_argument("--plot", type=Path, help="an .svg or .png to draw")
    options = parser.parse_args()
    words = options.words or [None] * len(options.data)
    if not len(options.data) == len(options.fit) == len(words):
        parser.error("--fit, --words: expected one for each --data")
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 1 << 30
    print(describe_machine())
    results = {}
    for path, fit, texts in zip(options.data, options.fit, words, strict=True):
        vectors = normalised(np.load(path).astype(np.float32))
        count = min(options.limit, len(vectors) - fit)
        if fit < 1 or count < 11:
            parser.error(f"--fit: found {fit} of {len(vectors)} rows, expected to leave 11 or more")
        shape = f"{fit} fitted, {count} measured, dimension {vectors.shape[1]}"
        print(f"\n{path.name}: {options.splits} splits, {shape}")
        results[path.stem] = measured_rows(vectors, fit, options.limit, options.splits)
        print_rows(results[path.stem])
        if texts:
            print_words(vectors[:fit], vectors[fit : fit + count], normalised(np.load(texts)))
        print_speed(KltCoder.fit(vectors[:fit]), vectors[fit : fit + count])
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
