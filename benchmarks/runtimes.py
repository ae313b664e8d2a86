"""`mini` on ONNX Runtime against `mini` on torch, on the CPU: time and agreement, pair by pair.

Both do the same work in turn, so that what else the machine does falls on both alike: photographs and texts
are embedded, and streams of 140 bytes decoded. A ratio is the median of the rounds' ratios.

    python benchmarks/runtimes.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from clip_feature_codec.bundle import Bundle
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.decoders.running import load_checkpoint
from clip_feature_codec.embed import ClipEmbedder, Embedder, load_embedder
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image
from clip_feature_codec.packs import DEFAULT_PACK
from clip_feature_codec.preview import analyse
from clip_feature_codec.reconstruct import paint

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
TEXTS = ("a red bus", "a cat on a bench", "the sea", "people in a street at night")


def photographs(count: int) -> list[Image.Image]:
    """So many squares of 256 pixels out of scikit-image's photographs."""
    folder = Path(skimage.data.__file__).parent
    files = [next(folder.glob(f"{name}.*")) for name in PHOTOS]
    whole = [load_image(file) for file in files]
    rng = np.random.default_rng(0)
    cut = []
    for number in range(count):
        picture = whole[number % len(whole)]
        left, top = (int(rng.integers(side - 256 + 1)) for side in picture.size)
        cut.append(picture.crop((left, top, left + 256, top + 256)))
    return cut


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=16, help="pictures in a batch (default 16)")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: the steadiest)")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)

    bundle = Bundle.find(DEFAULT_PACK)
    file = bundle.decoder_file
    if file is None:
        raise SystemExit(f"{DEFAULT_PACK} has no decoder")
    embedders: list[Embedder] = [load_embedder(DEFAULT_PACK, device="cpu"), ClipEmbedder.load(device="cpu")]
    decoders: list[Decoder] = [load_checkpoint(file, "cpu"), load_decoder(file)]
    pictures = photographs(args.count)
    pixels = np.stack([embedders[0].preprocess(picture) for picture in pictures])
    texts = [TEXTS[i % len(TEXTS)] for i in range(args.count)]
    layouts = np.stack([analyse(picture) for picture in pictures])
    layers = Layers(embedders[0].embed_batch(pixels), layouts, [1.0] * args.count)
    streams = bundle.codec.parse_all(bundle.codec.encode(layers, Rate(max_bytes=140)))

    def decoded(decoder: Decoder) -> np.ndarray:
        painted = paint(streams, bundle.codec, decoder, PaintOptions(), args.count)
        return np.stack([np.asarray(picture) for picture in painted])

    print(describe_machine())
    print(f"{args.count} pictures in a batch, {args.threads} thread(s), medians of {args.rounds} rounds")
    print("| work | ONNX Runtime | torch | ratio |")
    print("|---|---|---|---|")
    tasks: dict[str, list[Callable[[], object]]] = {
        "vector of a picture": [partial(e.embed_batch, pixels) for e in embedders],
        "vector of a text": [partial(e.embed_text, texts) for e in embedders],
        "picture of 256 pixels, 8 steps": [partial(decoded, d) for d in decoders],
    }
    for title, works in tasks.items():
        ours, theirs, ratio = compare(works, args.rounds)
        each = 1e3 / args.count
        print(f"| {title} | {ours * each:.2f} ms | {theirs * each:.2f} ms | {ratio:.2f} |", flush=True)
    vectors, others = (embedder.embed_batch(pixels) for embedder in embedders)
    levels, other_levels = (decoded(decoder).astype(int) for decoder in decoders)
    print(
        f"least cosine {(vectors * others).sum(1).min():.7f}, "
        f"largest difference of levels {np.abs(levels - other_levels).max()}"
    )


def compare(works: list[Callable[[], object]], rounds: int) -> tuple[float, float, float]:
    """Medians of seconds of either work, and of their ratio, after one round that does not count."""
    seconds: list[list[float]] = []
    for number in range(rounds + 1):
        found = [0.0, 0.0]
        for i in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            works[i]()
            found[i] = time.perf_counter() - began
        if number:
            seconds.append(found)
    first, second = zip(*seconds, strict=True)
    ratio = statistics.median(a / b for a, b in seconds)
    return statistics.median(first), statistics.median(second), ratio


if __name__ == "__main__":
    main()
