"""Encoding speed, of the whole pipeline or of budgets; what is compared runs in one process, in turns.

    python benchmarks/encode.py
    python benchmarks/encode.py --photos photos_val.parquet

The first compares pictures a second through the whole pipeline with those of the bare forward pass, on the
same pictures with the same model: ViT-B-32 with random weights, which cost as much as trained ones. The
pipeline reads JPEG files, preprocesses them in worker processes and embeds them; the forward pass alone gets
tensors that are ready.

The second compares `encode_many` of photographs with the built-in model at the default quality and to 140
bytes: the median of all rounds, of wall time and of processor time, which other work on the machine changes
less. And what coding takes of that: of their layers alone, in one batch and one at a time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.embed import load_embedder
from clip_feature_codec.encode import BATCH_SIZE, encode_source
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image
from clip_feature_codec.preview import analyse

RATES = {"default quality": Rate(), "140 bytes": Rate(max_bytes=140)}


def random_photos(folder: Path, count: int) -> None:
    """500 × 375 JPEG files that take as long to read as photographs: smooth shapes and some noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:04}.jpg", quality=90)


def milliseconds(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Wall time and processor time of one of so many pictures."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - wall) / count, 1000 * (time.process_time() - processor) / count


def print_budgets(source: Path, count: int, rounds: int) -> None:
    """What a budget costs, of `encode_many` and of coding alone."""
    given = pq.read_table(source, columns=["image"])["image"].to_pylist()[:count]
    photos, codec = [load_image(data) for data in given], ClipCodec.load()
    vectors, layouts = codec.embedder.embed_images(photos), np.stack([analyse(photo) for photo in photos])
    shapes = [photo.width / photo.height for photo in photos]
    layers = Layers(vectors, layouts, shapes)
    each = [Layers(vectors[i : i + 1], layouts[i : i + 1], shapes[i : i + 1]) for i in range(len(photos))]
    ways: dict[str, Callable[[Rate], object]] = {
        "encode_many": lambda rate: codec.encode_pictures(photos, rate),
        "coding, one batch": lambda rate: codec.features.encode(layers, rate),
        "coding, one at a time": lambda rate: [codec.features.encode(one, rate) for one in each],
    }
    print(f"milliseconds of one of {len(photos)} photographs: wall time, processor time")
    for name, way in ways.items():
        turns = [
            [milliseconds(partial(way, rate), len(photos)) for rate in RATES.values()]
            for _ in range(rounds + 1)
        ]
        times = np.array(turns[1:])  # (round, rate, kind of time); the first round is not counted
        cells = [
            f"{title} {wall:.2f}, {used:.2f}"
            for title, (wall, used) in zip(RATES, np.median(times, axis=0), strict=True)
        ]
        wall, used = np.median(times[:, 1] / times[:, 0], axis=0)
        print(f"{name}: {'; '.join(cells)}; {wall:.2f}, {used:.2f} times as much")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photos", type=Path, help="Parquet file with a column image: compare budgets on those"
    )
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--pictures", type=int, help="128 by default; with --photos, one batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    print(describe_machine())
    if args.photos:
        print_budgets(args.photos, args.pictures or BATCH_SIZE, args.rounds)
    else:
        print_pipeline(args.model, args.pictures or 128, args.rounds, args.device)


def print_pipeline(model: str, pictures: int, rounds: int, device: str) -> None:
    """The pipeline over the forward pass."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "photos").mkdir()
        random_photos(here / "photos", pictures)
        torch.manual_seed(0)
        weights = here / "random.pt"
        torch.save(open_clip.create_model(model).state_dict(), weights)
        embedder = load_embedder(model, str(weights), device)
        photos = [Image.open(path).convert("RGB") for path in sorted((here / "photos").iterdir())]
        ready = np.stack([embedder.preprocess(photo) for photo in photos])

        def forward() -> None:
            for start in range(0, len(ready), BATCH_SIZE):
                embedder.embed_batch(ready[start : start + BATCH_SIZE])

        embedder.embed_batch(ready[:BATCH_SIZE])
        ratios, rates = [], []
        for i in range(rounds):
            began = time.perf_counter()
            forward()
            middle = time.perf_counter()
            encode_source(here / "photos", here / f"store{i}", embedder)
            end = time.perf_counter()
            rates.append(pictures / (end - middle))
            ratios.append((middle - began) / (end - middle))
    print(f"encode {model}: {statistics.median(rates):.1f} images/s, files to streams")
    print(
        f"encode ratio: {statistics.median(ratios):.3f} of the bare forward pass's images/s "
        f"(median of {rounds} rounds: {', '.join(f'{r:.3f}' for r in ratios)}; target 0.95)"
    )


if __name__ == "__main__":
    main()
