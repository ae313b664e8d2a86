"""Encoding speed: pictures a second through the whole pipeline over those of the bare forward pass.

Both run in one process, in turns, on the same pictures with the same model: ViT-B-32 with random weights,
which cost as much as trained ones. The pipeline reads JPEG files, preprocesses them in worker processes and
embeds them; the forward pass alone gets tensors that are ready.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from clip_feature_codec.embed import load_embedder
from clip_feature_codec.encode import BATCH_SIZE, encode_source
from clip_feature_codec.evaluate.provenance import describe_machine


def random_photos(folder: Path, count: int) -> None:
    """500 × 375 JPEG files that take as long to read as photographs: smooth shapes and some noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:04}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "photos").mkdir()
        random_photos(here / "photos", args.pictures)
        torch.manual_seed(0)
        weights = here / "random.pt"
        torch.save(open_clip.create_model(args.model).state_dict(), weights)
        embedder = load_embedder(args.model, str(weights), args.device)
        photos = [Image.open(path).convert("RGB") for path in sorted((here / "photos").iterdir())]
        ready = np.stack([embedder.preprocess(photo) for photo in photos])

        def forward() -> None:
            for start in range(0, len(ready), BATCH_SIZE):
                embedder.embed_batch(ready[start : start + BATCH_SIZE])

        embedder.embed_batch(ready[:BATCH_SIZE])
        ratios, rates = [], []
        for i in range(args.rounds):
            began = time.perf_counter()
            forward()
            middle = time.perf_counter()
            encode_source(here / "photos", here / f"store{i}", embedder)
            end = time.perf_counter()
            rates.append(args.pictures / (end - middle))
            ratios.append((middle - began) / (end - middle))
    print(describe_machine())
    print(f"encode {args.model}: {statistics.median(rates):.1f} images/s, files to streams")
    print(
        f"encode ratio: {statistics.median(ratios):.3f} of the bare forward pass's images/s "
        f"(median of {args.rounds} rounds: {', '.join(f'{r:.3f}' for r in ratios)}; target 0.95)"
    )


if __name__ == "__main__":
    main()
