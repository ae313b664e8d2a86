"""What a byte budget is best spent on: the vector or the layout. The rule in `codec.budget` comes from here.

    python benchmarks/split.py --photos photos.parquet --limit 48

Takes Parquet files with a column ``image`` (encoded bytes). For each budget, streams are put together with
layout layers of several sizes and decoded with the built-in model; closeness is PSNR, meaning is the cosine
of the CLIP vectors of picture and decoded picture, by the model's own tower.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.evaluate.metrics.pixels import psnr
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image, output_size, resize_to
from clip_feature_codec.preview import analyse, preview
from clip_feature_codec.reconstruct import paint

SIZE = 256


def joined(
    features: FeatureCodec,
    vectors: np.ndarray,
    layouts: np.ndarray,
    aspects: list[float],
    budget: int,
    share: int,
) -> list[bytes]:
    """Streams of at most ``budget`` bytes whose layout layer has at most ``share``; without it for 0."""
    if share == 0:
        return features.encode(Layers(vectors, aspects=aspects), Rate(max_bytes=budget))
    digest = bytes.fromhex(features.tables_sha256)
    blobs = []
    for row, aspect in enumerate(aspects):
        alone = Rate(max_bytes=bitstream.overhead(aspect, 1) + share)
        (blob,) = features.encode(Layers(layout=layouts[row : row + 1], aspects=[aspect]), alone)
        layout = features.parse(blob).layout
        room = Rate(max_bytes=budget - 1 - len(layout or b""))
        (blob,) = features.encode(Layers(vectors[row : row + 1], aspects=[aspect]), room)
        blobs.append(bitstream.pack(digest, features.profile, features.parse(blob).semantic, layout, aspect))
    return blobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=48, help="photos, from the first on")
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 140, 222, 340])
    parser.add_argument("--shares", type=int, nargs="+", default=[0, 15, 25, 35, 50, 70, 100, 140, 200])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    print(describe_machine())
    codec = ClipCodec.load()
    features = codec.features
    data = [
        row for path in args.photos for row in pq.read_table(path, columns=["image"])["image"].to_pylist()
    ]
    photos = [load_image(row) for row in data[: args.limit]]
    aspects = [photo.width / photo.height for photo in photos]
    originals = [
        resize_to(photo, output_size(aspect, SIZE)) for photo, aspect in zip(photos, aspects, strict=True)
    ]
    vectors = codec.embedder.embed_images(photos)
    layouts = np.stack([analyse(photo) for photo in photos])
    print(f"{len(photos)} photos at {SIZE} pixels, {args.steps} steps, {args.seeds} seeds")
    print("budget  layout  cosine  layout's PSNR  decoded PSNR  CLIP similarity")
    for budget in args.budgets:
        for share in [share for share in args.shares if share <= budget - 8 - features.semantic.smallest]:
            streams = features.parse_all(joined(features, vectors, layouts, aspects, budget, share))
            flat = "-"
            if share:
                shown = [
                    fitted(preview(stream, features, SIZE), one)
                    for stream, one in zip(streams, originals, strict=True)
                ]
                flat = f"{np.mean(decibels(originals, shown)):.2f}"
            cosine = float((vectors * features.vectors(streams)).sum(axis=1).mean())
            close, alike = figures(codec, streams, originals, vectors, args.steps, args.seeds)
            print(
                f"{budget:6}  {share:6}  {cosine:.4f}  {flat:>13}  {close:12.2f}  {alike:15.4f}", flush=True
            )


def figures(
    codec: ClipCodec,
    streams: list[Stream],
    originals: list[Image.Image],
    vectors: np.ndarray,
    steps: int,
    seeds: int,
) -> tuple[float, float]:
    """Mean PSNR and CLIP similarity of the decoded pictures, over all seeds."""
    close, alike = [], []
    for seed in range(seeds):
        options = PaintOptions(steps=steps, sampler="ddim", seed=seed)
        painted = list(paint(streams, codec.features, codec.decoder, options))
        painted = [fitted(one, original) for one, original in zip(painted, originals, strict=True)]
        close += decibels(originals, painted)
        alike += (vectors * codec.embedder.embed_images(painted)).sum(axis=1).tolist()
    return float(np.mean(close)), float(np.mean(alike))


def decibels(originals: list[Image.Image], shown: list[Image.Image]) -> list[float]:
    """PSNR of each pair that is not identical."""
    values = (psnr(*pair) for pair in zip(originals, shown, strict=True))
    return [value for value in values if value is not None]


def fitted(picture: Image.Image, original: Image.Image) -> Image.Image:
    """The picture in the original's size: the stream's aspect ratio is a rounded one."""
    return resize_to(picture, original.size)


if __name__ == "__main__":
    main()
