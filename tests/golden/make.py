"""How the golden files were made: `python tests/golden/make.py` from the repository root, once.

Running it again would replace the promise that old files decode with the hope that new ones do. It is
kept as a record; a change of format gets new files beside these.

A folder for each profile: its tables in ``codec.json``; the inputs (``vectors.npy``, ``layouts.npy``, a row
for each case, in the order of CASES); the streams; and what they decode to (``decoded_vectors.npy``,
``decoded_layouts.npy`` and ``previews.npy``, zeros where a stream has no such layer).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.preview import analyse

FOLDER = Path(__file__).parent
DIM = 64
PREVIEW = (24, 16)
PREPROCESSING = {
    "size": [64, 64],
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
CASES: dict[str, tuple[float, Rate]] = {
    "square": (1.0, Rate(layers="semantic")),
    "landscape": (1.5, Rate()),
    "portrait": (0.75, Rate(layers="layout")),
    "ribbon": (1000.0, Rate(quality=90)),
    "zstd": (4 / 3, Rate(layers="semantic")),
    "flat": (1.0, Rate(quality=0)),
    "budget": (1.0, Rate(max_bytes=120)),
    "small": (1.0, Rate(max_bytes=75, layers="semantic")),
    "large": (0.5, Rate(max_bytes=400)),
    "cosine": (1.2, Rate(target_cosine=0.995)),
}


def pictures() -> list[Image.Image]:
    """One for each case: smooth, but for the flat one."""
    rng = np.random.default_rng(20240301)
    coarse = rng.integers(0, 256, (len(CASES), 5, 6, 3), dtype=np.uint8)
    coarse[list(CASES).index("flat")] = (200, 120, 40)
    return [Image.fromarray(each).resize((96, 80), Image.Resampling.BICUBIC) for each in coarse]


def make(folder: Path, codec: FeatureCodec, vectors: np.ndarray) -> None:
    layouts = np.stack([analyse(picture) for picture in pictures()])
    shapes = {"vectors": vectors.shape, "layouts": layouts.shape, "previews": (len(CASES), *PREVIEW[::-1], 3)}
    decoded_vectors = np.zeros(shapes["vectors"], np.float32)
    decoded_layouts = np.zeros(shapes["layouts"], np.int16)
    previews = np.zeros(shapes["previews"], np.uint8)
    folder.mkdir()
    codec.save(folder / "codec.json")
    for row, (name, (aspect, rate)) in enumerate(CASES.items()):
        (blob,) = codec.encode(Layers(vectors[row : row + 1], layouts[row : row + 1], [aspect]), rate)
        (folder / f"{name}.clp").write_bytes(blob)
        stream = codec.parse(blob)
        if stream.semantic is not None:
            decoded_vectors[row] = codec.vectors([stream])[0]
        if stream.layout is not None:
            decoded_layouts[row] = codec.layouts([stream])[0]
            previews[row] = codec.preview(stream, *PREVIEW)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "layouts.npy", layouts)
    np.save(folder / "decoded_vectors.npy", decoded_vectors)
    np.save(folder / "decoded_layouts.npy", decoded_layouts)
    np.save(folder / "previews.npy", previews)


def main() -> None:
    if (FOLDER / "int8").exists() or (FOLDER / "klt").exists():
        raise SystemExit(f"{FOLDER}: golden files are there already, and are never made again")
    rng = np.random.default_rng(20240229)
    # Four groups of channels, each with the same values in every channel: a vector that is constant over
    # a group then has equal codes there, which is what zstd can shorten.
    means, spreads = [0.3, -0.1, 0.0, 0.5], [0.1, 0.3, 0.2, 0.05]
    groups = rng.normal(means, spreads, size=(200, 4))
    fitted = np.repeat(groups, DIM // 4, axis=1).astype(np.float32)
    space = ClipSpace("golden", "none", "0123456789abcdef" * 4, DIM, PREPROCESSING)
    vectors = rng.normal(np.repeat(means, DIM // 4), np.repeat(spreads, DIM // 4), size=(len(CASES), DIM))
    vectors = vectors.astype(np.float32)
    vectors[list(CASES).index("zstd")] = fitted[0]
    make(FOLDER / "int8", FeatureCodec.fit(fitted, space), vectors)
    # For the KLT, channels that go together to different degrees.
    mixing = rng.normal(0, 1, (DIM, DIM)) * 0.9 ** np.arange(DIM)[:, None]
    correlated = rng.normal(0, 0.05, (1200, DIM)) @ mixing + np.repeat(means, DIM // 4)
    rows = correlated.astype(np.float32)
    make(FOLDER / "klt", FeatureCodec.fit_klt([rows[:1000]], space), rows[1000 : 1000 + len(CASES)])


if __name__ == "__main__":
    main()
