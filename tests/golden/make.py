"""How the golden files were made: `python tests/golden/make.py` from the repository root, once.

Running it again would replace the promise that old files decode with the hope that new ones do. It is
kept as a record; a change of format gets new files beside these.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace

FOLDER = Path(__file__).parent
DIM = 64
PREPROCESSING = {
    "size": [64, 64],
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
ASPECTS = {"square": 1.0, "landscape": 1.5, "portrait": 0.75, "ribbon": 1000.0, "zstd": 4 / 3}


def main() -> None:
    if (FOLDER / "codec.json").exists():
        raise SystemExit(f"{FOLDER}: golden files are there already, and are never made again")
    rng = np.random.default_rng(20240229)
    # Four groups of channels, each with the same values in every channel: a vector that is constant over
    # a group then has equal codes there, which is what zstd can shorten.
    means, spreads = [0.3, -0.1, 0.0, 0.5], [0.1, 0.3, 0.2, 0.05]
    groups = rng.normal(means, spreads, size=(200, 4))
    fitted = np.repeat(groups, DIM // 4, axis=1).astype(np.float32)
    space = ClipSpace("golden", "none", "0123456789abcdef" * 4, DIM, PREPROCESSING)
    codec = FeatureCodec.fit(fitted, space)
    inputs = rng.normal(np.repeat(means, DIM // 4), np.repeat(spreads, DIM // 4), size=(len(ASPECTS), DIM))
    inputs = inputs.astype(np.float32)
    inputs[list(ASPECTS).index("zstd")] = fitted[0]
    blobs = codec.encode(inputs, list(ASPECTS.values()))
    for name, blob in zip(ASPECTS, blobs, strict=True):
        (FOLDER / f"{name}.clp").write_bytes(blob)
    codec.save(FOLDER / "codec.json")
    np.save(FOLDER / "inputs.npy", inputs)  # rows in the order of ASPECTS
    np.save(FOLDER / "vectors.npy", codec.decode(blobs))


if __name__ == "__main__":
    main()
