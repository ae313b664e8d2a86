"""Trains the tables of the layout layer and freezes them as integers.

    python recipes/layout/fit_layout.py photos-*.parquet -o src/clip_feature_codec/codec/layout/tables.json

Pictures are coded at steps from fine to coarse with the tables so far. Then a small model is fitted to what
was coded: a level that is linear in the features of context.h, with an offset for each coefficient
and weights for each group, and a smooth function from levels to probabilities, by their code length. It is
frozen as tables. The encoder weighs rates by those very tables, so this goes round a few times.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from clip_feature_codec.codec.entropy.magnitudes import (
    DIRECT,
    ESCAPE,
    ORIGIN,
    PRECISION,
    ROWS,
    SYMBOLS,
    Magnitudes,
)
from clip_feature_codec.codec.layout.block import step_size
from clip_feature_codec.codec.layout.coder import UNITS, LayoutCoder
from clip_feature_codec.codec.layout.payloads import addresses
from clip_feature_codec.codec.layout.tables import FEATURES, LayoutTables, geometry
from clip_feature_codec.codec.layout.trellis import MACHINE, quantise, workspace
from clip_feature_codec.images import load_image, squash

ROUNDS = ((100, 1200), (140, 1500), (220, 3000))  # pictures at each step, and updates, of each round
STEPS = range(8, 112, 8)
WEIGHT = 1250
SCORE_UNITS = 16  # scores count in 1/16
ZEROS = (0.62, 0.37)  # half the width of the values that become 0, in twice the step, of each quantiser
BATCH, RATE = 16384, 8e-3
OFFSET_DECAY = 2e-5
CLASSES = 4  # 0, 1, 2, more: these have probabilities of their own, the rest falls geometrically
SMOOTHING, CENTROID_PRIOR = 9, 20


class Coded(NamedTuple):
    """What was coded, one entry a coefficient.

    Attributes:
        coefficient: which one.
        start: where its level started, in 1/256 octave.
        features: (n, 8), see `look` in context.h.
        quantiser, shift, row: which table its symbol was coded with.
        symbol: of that table; the escape is not cut off.
        offset: from the symbol's grid point to the value, in 1/256 of the step.
    """

    coefficient: NDArray[np.int64]
    start: NDArray[np.int64]
    features: NDArray[np.int64]
    quantiser: NDArray[np.int64]
    shift: NDArray[np.int64]
    symbol: NDArray[np.int64]
    row: NDArray[np.int64]
    offset: NDArray[np.int64]


def observe(
    targets: NDArray[np.int64], step: int, tables: LayoutTables
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Code one picture, (L,): the fields of `Coded` without the features, (7, n), and those, (n, 8)."""
    symbols, quantisers = np.zeros((2, len(targets)), np.int64)
    work = workspace(len(targets))
    quantise(targets, step, WEIGHT, tables, geometry(), MACHINE, work, symbols, quantisers)
    places, features = addresses(symbols, step, tables, geometry(), MACHINE)
    i, start, quantiser, shift, row = places.T
    magnitude, target = np.abs(symbols[i]), targets[i]
    grid = np.where(magnitude > 0, (2 * magnitude - quantiser) << 8, 0)
    value = np.where((target < 0) == (symbols[i] < 0), np.abs(target), -np.abs(target))
    return np.stack([i, start, quantiser, shift, magnitude >> shift, row, value - grid]), features


def code_all(rows: NDArray[np.int64], tables: LayoutTables, pictures: int, rng: np.random.Generator) -> Coded:
    """Code some pictures at every step."""
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for step in STEPS:
        size = step_size(step)
        chosen = rng.choice(len(rows), min(pictures, len(rows)), replace=False)
        parts += [observe((rows[picture] << 21) // size, step, tables) for picture in chosen]
    index, start, q, shift, symbol, row, offset = np.concatenate([part[0] for part in parts], axis=1)
    return Coded(index, start, np.concatenate([part[1] for part in parts]), q, shift, symbol, row, offset)


class Model(nn.Module):
    """Levels of coefficients, and probabilities of symbols at a level."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(12, FEATURES))
        self.offsets = nn.Parameter(torch.zeros(len(geometry().places)))
        self.shapes = nn.Sequential(
            nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, CLASSES)
        )

    def forward(self, level: Tensor, quantiser: Tensor, fine: Tensor) -> Tensor:
        """Logits (N, 4) of: more than 0; more than 1, given that; more than 2; one more, from 3 on."""
        logits: Tensor = self.shapes(torch.stack([0.4 * level, quantiser, fine], 1))
        return logits


def code_length(logits: Tensor, symbols: Tensor) -> Tensor:
    """Natural logarithms of one over the symbols' probabilities, (N,)."""
    length = torch.zeros(len(symbols))
    for k in range(CLASSES - 1):
        beyond = torch.where(symbols == k, softplus(logits[:, k]), softplus(-logits[:, k]))
        length = length + torch.where(symbols >= k, beyond, 0.0)
    more = softplus(logits[:, -1]) + (symbols - CLASSES + 1).clamp(min=0) * softplus(-logits[:, -1])
    return length + torch.where(symbols >= CLASSES - 1, more, 0.0)


def fit(model: Model, coded: Coded, updates: int) -> float:
    """Fit the model to what was coded; returns the mean code length in bits, without signs."""
    group = torch.tensor(geometry().groups)
    index = torch.tensor(coded.coefficient)
    start = torch.tensor(coded.start / 256.0).float() - model.offsets.detach()[index]
    features = torch.tensor(coded.features / SCORE_UNITS).float()
    quantiser, symbol = torch.tensor(coded.quantiser).float(), torch.tensor(np.minimum(coded.symbol, 200))
    fine, shift = torch.tensor(coded.shift > 0).float(), torch.tensor(coded.shift).float()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=updates)
    losses = []
    for _ in range(updates):
        at = torch.randint(len(index), (BATCH,))
        i = index[at]
        level = start[at] + (features[at] * model.weights[group[i]]).sum(1) + model.offsets[i]
        loss = code_length(model(level - shift[at], quantiser[at], fine[at]), symbol[at]).mean()
        optimizer.zero_grad()
        (loss + OFFSET_DECAY * model.offsets.square().sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        plan.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-200:]) / np.log(2))


def row_levels() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Levels in octaves at the middle of each row, less the shift, and which rows are fine ones."""
    rows = np.arange(ROWS)
    fine = rows >= DIRECT
    return (rows - ORIGIN + 0.5) / 8 - fine, fine


@torch.no_grad()
def frequencies(model: Model) -> NDArray[np.int64]:
    """The symbols' frequencies, int64 (65, 2, 20), that add up to 2^15."""
    levels, fine = row_levels()
    shares = np.empty((ROWS, 2, SYMBOLS))
    for quantiser in range(2):
        given = torch.full((ROWS,), float(quantiser))
        logits = model(torch.tensor(levels).float(), given, torch.tensor(fine).float())
        more = torch.sigmoid(logits).double().numpy()
        left = np.ones(ROWS)
        for symbol in range(SYMBOLS):
            ahead = more[:, min(symbol, CLASSES - 1)] if symbol < ESCAPE else 0.0
            shares[:, quantiser, symbol] = left * (1 - ahead)
            left = left * ahead
    counts = np.maximum(np.rint(shares * (1 << PRECISION)), 1).astype(np.int64)
    top = counts.argmax(-1)[..., None]
    rest = (1 << PRECISION) - counts.sum(-1, keepdims=True)
    np.put_along_axis(counts, top, np.take_along_axis(counts, top, -1) + rest, -1)
    return counts


def scores() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scores of symbols, and their mean squares, were coefficients Laplacian with a mean size of the level's.

    With b the mean size over twice the step and t half the width of what becomes 0, P(0) = 1 - e^(-t / b),
    and P(k) = e^(-(k - 1 + t) / b) (1 - e^(-1/b)); scores are the derivatives of their logarithms by log b.
    """
    levels, _ = row_levels()
    b, k = 2.0 ** (levels[:, None] - 1), np.arange(SYMBOLS)
    table, squares = np.empty((ROWS, 2, SYMBOLS)), np.empty((ROWS, 2))
    for quantiser, t in enumerate(ZEROS):
        stay, ratio = np.exp(-t / b), np.exp(-1 / b)
        rest = ratio / np.maximum(1 - ratio, 1e-12)
        zero = -t / b * stay / np.maximum(1 - stay, 1e-9)
        other = (k - 1 + t) / b - rest / b
        table[:, quantiser] = np.where(k == 0, zero, other)
        usual = (1 / np.maximum(1 - ratio, 1e-12) - 1 + t) / b - rest / b
        spread = ratio / np.square(b * np.maximum(1 - ratio, 1e-12))
        squares[:, quantiser] = ((1 - stay) * zero**2 + stay * (usual**2 + spread))[:, 0]
    return (
        np.rint(np.clip(table, -2, 8) * SCORE_UNITS).astype(np.int64),
        np.rint(squares.mean(1) * SCORE_UNITS).astype(np.int64),
    )


def centroids(coded: Coded) -> NDArray[np.int64]:
    """Mean offsets of values from their grid points, smoothed over rows; symbols from 3 on share one."""
    table = np.zeros((ROWS, 2, SYMBOLS), np.int64)
    for quantiser in range(2):
        for k in range(1, CLASSES):
            same = (coded.symbol == k) if k < CLASSES - 1 else (coded.symbol >= k) & (coded.symbol < ESCAPE)
            at = np.flatnonzero(same & (coded.quantiser == quantiser) & (coded.shift == 0))
            sums = np.bincount(coded.row[at], coded.offset[at], ROWS)[:DIRECT]
            counts = np.bincount(coded.row[at], minlength=ROWS)[:DIRECT]
            around = np.ones(SMOOTHING)
            means = np.convolve(sums, around, "same") / (np.convolve(counts, around, "same") + CENTROID_PRIOR)
            whole = np.clip(np.rint(means), -256, 256).astype(np.int64)
            table[:DIRECT, quantiser, k : ESCAPE if k == CLASSES - 1 else k + 1] = whole[:, None]
    return table


def first_tables(rows: NDArray[np.int64], mean: NDArray[np.int64]) -> tuple[LayoutTables, Model]:
    """Tables from mean sizes alone, with Laplacian probabilities: the model is fitted to those first."""
    model = Model()
    levels, fine = row_levels()
    b = 2.0 ** (levels - 1)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    k = torch.arange(SYMBOLS)
    for _ in range(1500):
        loss = torch.zeros(())
        for quantiser, t in enumerate(ZEROS):
            wider = np.where(fine, t + 0.25, t)
            p = (
                np.exp(-(np.arange(SYMBOLS) - 1 + wider[:, None]) / b[:, None])
                * (1 - np.exp(-1 / b))[:, None]
            )
            p[:, 0] = 1 - np.exp(-wider / b)
            given = torch.full((ROWS,), float(quantiser))
            logits = model(torch.tensor(levels).float(), given, torch.tensor(fine).float())
            lengths = code_length(logits.repeat_interleave(SYMBOLS, 0), k.repeat(ROWS))
            loss = loss + (torch.tensor(p).float().reshape(-1) * lengths).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    sizes = np.abs(rows).mean(0) / UNITS
    scales = np.rint(256 * (np.log2(2 * sizes) + 2)).astype(np.int64)  # twice the finest step is 1/4
    table, squares = scores()
    magnitudes = Magnitudes.of(frequencies(model), table, squares, np.zeros_like(table))
    return LayoutTables(scales, np.zeros((12, FEATURES), np.int64), mean, magnitudes), model


def canvases(sources: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """The pictures in Parquet files' column ``image``, squashed to the canvas."""
    for source in sources:
        for batch in pq.ParquetFile(source).iter_batches(columns=["image"]):
            for data in batch["image"].to_pylist():
                yield np.asarray(squash(load_image(data), LayoutCoder.canvas))


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the tables of the layout layer.")
    parser.add_argument("pictures", type=Path, nargs="+", help="Parquet files with a column image")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where tables.json goes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    layouts = np.stack([LayoutCoder.analyse(canvas) for canvas in canvases(arguments.pictures)])
    places = geometry().places
    low = (places[:, 1] < 2) & (places[:, 2] < 2)
    mean = np.where(low, np.rint(layouts.mean(0)), 0).astype(np.int64)
    rows = layouts.astype(np.int64) - mean
    tables, model = first_tables(rows, mean)
    first = tables.scales
    for pictures, updates in ROUNDS:
        coded = code_all(rows, tables, pictures, rng)
        bits = fit(model, coded, updates)
        moved = model.offsets.detach().double().numpy()
        weights = model.weights.detach().double().numpy()
        tables = LayoutTables(
            first + np.rint(256 * moved).astype(np.int64),
            np.rint(weights * 65536 / SCORE_UNITS).astype(np.int64),
            mean,
            tables.magnitudes.of(
                frequencies(model),
                tables.magnitudes.scores.astype(np.int64),
                tables.magnitudes.information.astype(np.int64),
                centroids(coded),
            ),
        )
        print(f"{len(coded.coefficient):,} coefficients, {bits:.4f} bits each", flush=True)
        arguments.output.write_text(json.dumps(tables.to_json(), indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
