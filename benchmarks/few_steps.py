"""Few steps of DPM-Solver++ beside fifty of DDIM, by the built-in model: how good, and how long they take.

    python benchmarks/few_steps.py photos.parquet --work few_steps

The sampler's grid of timesteps was chosen on the first 32 photographs of the recipe's training data: of
those, look at the ones behind (``--skip``).
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np

from clip_feature_codec import ClipCodec
from clip_feature_codec.decoders.options import OUR_SAMPLING, PaintOptions
from clip_feature_codec.evaluate.analysis.statistics import Interval, intervals
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.instruments import Eyes
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.evaluate.results import Row
from stores import make_store

JUDGE = Path(__file__).parent / "judge"
METRICS = ("psnr", "clip_similarity", "judge_similarity")
SAMPLERS = {
    "DDIM, 50 steps": PaintOptions(steps=50, sampler="ddim"),
    "DDIM, 8 steps": PaintOptions(steps=8, sampler="ddim"),
    "DPM-Solver++, 8 steps": PaintOptions(steps=8),
    "DPM-Solver++, 4 steps": PaintOptions(steps=4),
    "DPM-Solver++, 2 steps": PaintOptions(steps=2),
    "fidelity 1": PaintOptions(fidelity=1.0),
}
BYTES = 140


def values(rows: list[Row], skip: int) -> np.ndarray:
    """The metrics of every picture but the first ``skip``: (pictures, metrics)."""
    found = [[row.metrics[name] for name in METRICS] for row in rows[skip:]]
    return np.array(found, dtype=np.float64)


def written(interval: Interval) -> str:
    if interval.mean is None or interval.low is None or interval.high is None:
        raise SystemExit("too few photographs for an interval")
    return f"{interval.mean:8.4f} ({interval.low:8.4f} to {interval.high:8.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="Parquet file with a column image")
    parser.add_argument("--work", type=Path, required=True, help="folder for the store")
    parser.add_argument("--skip", type=int, default=32, help="photographs to leave out, from the first on")
    parser.add_argument("--count", type=int, default=64, help="photographs to look at")
    args = parser.parse_args()
    print(describe_machine())
    codec = ClipCodec.load()
    store = make_store(codec, args.photos, args.work, count=args.skip + args.count)
    judge = Judge.load(JUDGE)
    found, times = {}, {}
    for title, options in SAMPLERS.items():
        evaluator = Evaluator.prepare(
            store, codec.decoder, codec.embedder, options, Comparison(budgets=[BYTES]), eyes=Eyes(judge)
        )
        rows = evaluator.run().rows
        found[title] = values(rows, args.skip)
        times[title] = statistics.median(row.decode_ms for row in rows if row.decode_ms is not None)
        evaluator.finish()
    (first, reference), *others = found.items()
    how = f"{BYTES} bytes, guidance {OUR_SAMPLING.guidance}; mean (95 % interval)"
    print(f"{len(reference)} photographs, {how}")
    for title, figures in found.items():
        means = (f"{name} {mean:.4f}" for name, mean in zip(METRICS, figures.mean(axis=0), strict=True))
        taken = f"{times[title]:.0f} ms a picture, {times[title] / times[next(iter(times))]:.3f} of the first"
        print(f"{title:24}", *means, taken, sep="  ")
    for title, figures in others:
        for name, interval in zip(METRICS, intervals(figures - reference), strict=True):
            print(f"{title} minus {first}: {name:18} {written(interval)}")


if __name__ == "__main__":
    main()
