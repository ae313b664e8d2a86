"""The figures of the mini pack's model card, measured on pictures that no stage of it was trained on.

Takes Parquet files with columns ``image`` (encoded bytes) and ``text`` (comma-separated class names), as the
recipe does: ``--small`` for the class figures and the decoder, ``--photos`` for the decoder at 256 pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.rate import LAYERS, Rate
from clip_feature_codec.evaluate.analysis.summary import summarise
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.evaluate.report import write_grid
from clip_feature_codec.images import load_image
from clip_feature_codec.reconstruct import PaintOptions
from clip_feature_codec.store.feature_store import FeatureStore

RECIPE = Path(__file__).parent.parent / "recipes" / "mini"
sys.path.insert(0, str(RECIPE))
from data import class_names  # noqa: E402
from stores import make_store  # noqa: E402

Floats = NDArray[np.float32]


def class_figures(codec: ClipCodec, store: FeatureStore, labels: list[str], held_out: set[str]) -> None:
    """Print how well prompts find classes and streams find their originals."""
    vectors = store.vectors()
    groups = {
        "trained classes": [name for name in sorted(set(labels)) if name not in held_out],
        "held-out classes": sorted(held_out & set(labels)),
        "all classes": sorted(set(labels)),
    }
    for title, classes in groups.items():
        rows = [i for i, label in enumerate(labels) if label in classes]
        prompts = codec.embedder.embed_text([f"a photo of a {name}" for name in classes])
        scores = vectors[rows] @ prompts.T
        truth = np.array([classes.index(labels[i]) for i in rows])
        ranks = (scores > scores[np.arange(len(rows)), truth][:, None]).sum(1)
        hits = [np.sum(truth[np.argsort(-scores[:, c])[:10]] == c) for c in range(len(classes))]
        recall = np.mean(hits / np.bincount(truth))
        print(
            f"class prompts, {title} ({len(classes)}, {len(rows)} pictures): top-1 {np.mean(ranks < 1):.1%} "
            f"(chance {1 / len(classes):.1%}), top-5 {np.mean(ranks < 5):.1%}, "
            f"prompt finds its pictures among the first ten: {recall:.1%}"
        )


def stream_figures(codec: ClipCodec, store: FeatureStore, title: str) -> None:
    """Print what coding takes from the vectors."""
    originals = codec.embedder.embed_images([load_image(store.source_path(entry)) for entry in store.entries])
    decoded = store.vectors()
    cosines = (originals * decoded).sum(1)
    first = np.mean((originals @ decoded.T).argmax(0) == np.arange(len(decoded)))
    sizes = [entry.bytes for entry in store.entries]
    pairs = originals @ originals.T
    other = (pairs.sum() - np.trace(pairs)) / (len(pairs) * (len(pairs) - 1))
    print(
        f"streams, {title}: {np.mean(sizes):.1f} bytes, cosine mean {cosines.mean():.5f} "
        f"worst {cosines.min():.5f}, own original nearest {first:.1%}; "
        f"cosine between two pictures {other:.3f}"
    )


def decoder_figures(
    codec: ClipCodec, store: FeatureStore, options: PaintOptions, limit: int, title: str
) -> None:
    """Print the decoder's figures, with its own CLIP as the judge, and save a grid."""
    evaluator = Evaluator.prepare(store, codec.decoder, codec.embedder, options, limit=limit)
    result = evaluator.run()
    (point,) = summarise(result).points
    figures = ", ".join(f"{name} {value.mean:.3f}" for name, value in point.metrics.items())
    how = f"{options.steps} steps, guidance {options.guidance}"
    print(f"decoder, {title}, {how}: {point.fits} pictures: {point.bytes.mean:.1f} bytes, {figures}")
    write_grid(result, evaluator.pictures, Path(f"mini_{title}_{options.guidance}.png"))
    evaluator.finish()


def labels_of(parquet: Path) -> list[str]:
    """The first of each picture's class names."""
    return [class_names(text)[0] for text in pq.read_table(parquet, columns=["text"])["text"].to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=200, help="how many small ones to decode")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--layers", choices=[name for name in LAYERS if name != "layout"], default="both")
    parser.add_argument("--weights", type=Path, help="another decoder of the same CLIP model")
    args = parser.parse_args()
    print(describe_machine())
    codec = ClipCodec.load(weights=args.weights)
    rate = Rate(layers=args.layers)
    held_out = set(tomllib.loads((RECIPE / "config.toml").read_text())["clip"]["held_out"])
    with tempfile.TemporaryDirectory() as folder:
        small = make_store(codec, args.small, Path(folder, "small"), rate)
        photos = make_store(codec, args.photos, Path(folder, "photos"), rate)
        class_figures(codec, small, labels_of(args.small), held_out)
        stream_figures(codec, small, "small")
        stream_figures(codec, photos, "photos")
        for guidance in args.guidance:
            options = PaintOptions(steps=args.steps, eta=0.0, guidance=guidance, size=64)
            decoder_figures(codec, small, options, args.pictures, "small")
            options = PaintOptions(steps=args.steps, eta=0.0, guidance=guidance, size=256)
            decoder_figures(codec, photos, options, len(photos), "photos")


if __name__ == "__main__":
    main()
