"""Counts the entropy coder's table family on vectors of a CLIP model, and freezes it as integers.

    python recipes/codec/fit_magnitudes.py vectors.npy src/clip_feature_codec/codec/entropy/magnitudes.json

Half of the vectors fit a transform, the other half is quantised at steps from fine to coarse. The encoder
weighs rates by the very tables that are to be counted, so this goes round a few times, from smooth
first tables. A table keeps some weight of its neighbours, since the family is smooth from row to row.
"""

from __future__ import annotations

import argparse
import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.entropy.magnitudes import (
    DIRECT,
    ESCAPE,
    ORIGIN,
    PRECISION,
    ROWS,
    SYMBOLS,
    Magnitudes,
    code_lengths,
)
from clip_feature_codec.codec.semantic.klt import KltCoder
from clip_feature_codec.codec.semantic.levels import fill_gains
from clip_feature_codec.codec.semantic.payloads import addresses
from clip_feature_codec.codec.semantic.trellis import MACHINE, quantise, workspace

ROUNDS = 4
WEIGHT = 1750
NEIGHBOURS = 0.5  # weight of the rows beside a row
PRIOR = 20.0  # what the former round's table counts, in symbols
MAX_SCORE = 600


def observe(
    targets: NDArray[np.int64],
    levels: NDArray[np.int64],
    tables: Magnitudes,
    counts: NDArray[np.float64],
    offsets: NDArray[np.float64],
) -> None:
    """Add up how often each symbol is chosen, and how far its values lie from its grid point."""
    gains, work = np.empty(len(levels), np.int32), workspace(len(levels))
    coded = fill_gains(levels, tables, gains)
    levels, gains, symbols = levels[:coded], gains[:coded], np.empty(coded, np.int64)
    for target in targets[:, :coded]:
        quantise(target, levels, gains, WEIGHT, tables, MACHINE, work, symbols)
        row, shift, quantiser = addresses(symbols, levels, gains, tables, MACHINE).T
        magnitude = np.abs(symbols)
        at = row, quantiser, np.minimum(magnitude >> shift, ESCAPE)
        np.add.at(counts, at, 1)
        np.add.at(
            offsets, at, np.where(magnitude > 0, np.abs(target) - ((2 * magnitude - quantiser) << 8), 0)
        )


def first_tables() -> Magnitudes:
    """Laplacian magnitudes of each row's spread, rounded with a dead zone."""
    counts = np.zeros((ROWS, 2, SYMBOLS))
    for row in range(ROWS):
        spread = 2 ** ((row - ORIGIN) / 8 - (row >= DIRECT))
        for quantiser in (0, 1):
            edges = np.arange(SYMBOLS + 1.0) - (0.4 if quantiser == 0 else 0.8)
            if row >= DIRECT:
                edges = np.arange(SYMBOLS + 1.0)
            edges[0], edges[-1] = 0, np.inf
            tails = np.exp(-sqrt(2) * np.maximum(edges, 0) / spread)
            counts[row, quantiser] = 1e6 * -np.diff(tails)
    return frozen(counts, np.zeros_like(counts))


def frozen(counts: NDArray[np.float64], offsets: NDArray[np.float64]) -> Magnitudes:
    """Integer tables of counts: frequencies with sum 2^15, none below 1, and what is derived from them."""
    total = 1 << PRECISION
    shares = counts / counts.sum(axis=-1, keepdims=True)
    frequencies = np.maximum(1, np.floor(shares * (total - SYMBOLS))).astype(np.int64)
    most = frequencies.argmax(axis=-1)[..., None]
    rest = total - frequencies.sum(axis=-1, keepdims=True)
    np.put_along_axis(frequencies, most, np.take_along_axis(frequencies, most, -1) + rest, -1)
    lengths = code_lengths(frequencies).astype(np.float64)
    scores = np.zeros(lengths.shape)
    for first, end in ((0, DIRECT), (DIRECT, ROWS)):
        scores[first:end] = -np.gradient(lengths[first:end], axis=0)
    whole = np.rint(np.clip(scores, -MAX_SCORE, MAX_SCORE)).astype(np.int64)
    information = np.rint((frequencies * whole**2).sum(axis=-1).mean(axis=-1) / total).astype(np.int64)
    centroids = np.clip(np.rint(offsets / (counts + 200)), -256, 256).astype(np.int64)
    centroids[DIRECT:] = 0
    centroids[..., 0] = centroids[..., ESCAPE] = 0
    return Magnitudes.of(frequencies, whole, information, centroids)


def smoothed(counts: NDArray[np.float64], former: Magnitudes) -> NDArray[np.float64]:
    """Counts with some of the neighbouring rows' shares and of the former tables mixed in."""
    counts = counts.copy()
    counts[DIRECT:] = counts[DIRECT:].sum(axis=1, keepdims=True)  # alike in both quantisers
    sums = counts.sum(axis=-1, keepdims=True)
    shares = counts / np.maximum(sums, 1)
    mixed = counts + PRIOR * np.diff(former.starts, axis=-1) / (1 << PRECISION)
    for first, end in ((0, DIRECT), (DIRECT, ROWS)):
        for by in (-1, 1):
            for row in range(first, end):
                if first <= row + by < end:
                    weight = NEIGHBOURS * np.minimum(sums[row], sums[row + by])
                    mixed[row] += weight * shares[row + by]
    return mixed


def count(
    transform: KltCoder, unit: NDArray[np.float32], tables: Magnitudes, steps: NDArray[np.int64]
) -> Any:
    """Counts and offsets over vectors at all the steps."""
    counts, offsets = np.zeros((ROWS, 2, SYMBOLS)), np.zeros((ROWS, 2, SYMBOLS))
    scales = transform.scales.astype(np.int64)
    coefficients = (unit.astype(np.float64) - transform.mean / 2.0**15) @ transform.basis.T / 2.0**15
    for step in steps.tolist():
        targets = np.rint(coefficients / 2 ** (step / 16 - 1) * 256).astype(np.int64)
        observe(targets, scales - step, tables, counts, offsets)
    return counts, offsets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path, help="float32 .npy (N, D), N some tens of thousands")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=10000, help="vectors to quantise, at each step")
    options = parser.parse_args()
    vectors = np.load(options.vectors).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.random.default_rng(0).permutation(len(vectors))
    half = len(vectors) // 2
    transform = KltCoder.fit(vectors[order[:half]])
    unit = vectors[order[half:][: options.limit]]
    steps = np.arange(-148, -24, 5)
    tables = first_tables()
    for number in range(ROUNDS):
        part = unit[: max(1000, len(unit) >> (ROUNDS - 1 - number))]
        counts, offsets = count(transform, part, tables, steps)
        tables = frozen(smoothed(counts, tables), offsets)
        bits = (counts * code_lengths(np.diff(tables.starts, axis=-1))).sum() / 256
        spent = bits / 8 / len(part) / len(steps)
        print(f"round {number + 1}: {len(part)} vectors, {spent:.2f} bytes of magnitudes each")
    options.out.write_text(json.dumps(tables.to_json(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
