"""What `preview.match_layout` does to PSNR: by mini's decoder, with the layouts and with them hidden from it.

    python benchmarks/match_layout.py photos_val.parquet

A decoder from which the layouts are hidden stands for those that take none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.decoders.conditions import read_conditions
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.images import load_image, squash
from clip_feature_codec.preview import match_layout


def psnr(picture: Image.Image, original: Image.Image) -> float:
    error = np.asarray(picture, np.float64) - np.asarray(original, np.float64)
    return float(10 * np.log10(255**2 / np.square(error).mean()))


def table(codec: ClipCodec, pictures: Sequence[Image.Image], limit: int, reaches: Sequence[float]) -> None:
    blobs = codec.encode_many(pictures, max_bytes=limit)
    streams, decoder = codec.features.parse_all(blobs), codec.decoder
    told = read_conditions(streams, codec.features, decoder.layout_side)
    hidden = replace(told, present=np.zeros_like(told.present))
    for conditions, name in ((told, "layouts told"), (hidden, "layouts hidden")):
        for fidelity in (0.0, 1.0):
            painted = decoder.paint(conditions, PaintOptions(fidelity=fidelity), blobs)
            originals = [squash(picture, painted[0].width) for picture in pictures]
            before = [psnr(*pair) for pair in zip(painted, originals, strict=True)]
            figures = [f"{np.mean(before):.2f}"]
            for reach in reaches:
                after = [
                    psnr(match_layout(picture, stream, codec.features, reach), original)
                    for picture, stream, original in zip(painted, streams, originals, strict=True)
                ]
                worse = sum(new < old for new, old in zip(after, before, strict=True))
                figures.append(f"{np.mean(after):.2f} ({worse} worse)")
            print(f"| {limit} | {name} | {fidelity:g} | {' | '.join(figures)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="Parquet file with a column image")
    parser.add_argument("--limits", type=int, nargs="+", default=[140, 340], help="bytes of a stream")
    parser.add_argument("--reaches", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--count", type=int, default=64)
    args = parser.parse_args()
    rows = pq.read_table(args.photos, columns=["image"])["image"].to_pylist()[: args.count]
    pictures = [load_image(data) for data in rows]
    codec = ClipCodec.load(device="cpu")
    print(f"mean PSNR in dB of {len(pictures)} pictures against their squares of the canvas's size\n")
    print(f"| bytes | mini's decoder | fidelity | as painted | {' | '.join(map(str, args.reaches))} |")
    print("|---" * (4 + len(args.reaches)) + "|")
    for limit in args.limits:
        table(codec, pictures, limit, args.reaches)


if __name__ == "__main__":
    main()
