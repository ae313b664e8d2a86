"""Stage 4: codec tables, and what streams of the decoder's crops decode to.

The tables are fitted on the crops' own vectors. Each crop's vector and layout are coded at a low and at a
high rate and back; the photographs that were kept out are coded to budgets, to look at. What is there
already is left as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import Conditions, read_conditions
from clip_feature_codec.embed import Embedder, load_embedder
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.preview import analyse
from data import CONFIG, load_pictures, read_config
from fit_text_tower import embed_pictures, shrunk
from teacher import known_classes, read_names

KEPT_OUT = "kept-out.npz"
SHOWN_BYTES = (64, 140, 340)
_SHOWN_SIDE = 256  # pixels of the photographs that were kept out


def pack_space(embedder: Embedder) -> ClipSpace:
    """The space under the name by which the finished pack is found."""
    return dataclasses.replace(embedder.space, model="mini", pretrained="pack")


def coded_names(codec: FeatureCodec) -> tuple[str, str]:
    """What the arrays of decoded vectors and layouts are called, in shards: other tables, other names."""
    return f"coded-{codec.tables_sha256[:12]}", f"layouts-{codec.tables_sha256[:12]}"


def beside(images: Path, name: str) -> Path:
    """The file of another array of the same shard."""
    return images.with_name(images.name.replace("-images.", f"-{name}."))


def save(path: Path, array: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    with atomic_writer(path) as file:
        np.save(file, array)


def layouts_of(images: np.ndarray) -> np.ndarray:
    """Layout coefficients (N, L) of pictures uint8 (N, S, S, 3)."""
    return np.stack([analyse(Image.fromarray(image)) for image in images])


def decoded(codec: FeatureCodec, layers: Layers, rate: Rate, side: int) -> Conditions:
    """What streams at a rate decode to."""
    return read_conditions(codec.parse_all(codec.encode(layers, rate)), codec, side)


def decoded_versions(
    codec: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray, config: dict[str, Any], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """What V streams of each picture decode to, each layer at a rate of its own.

    Args:
        codec: the tables.
        vectors: float32 (N, D).
        layouts: their pictures' layout coefficients (N, L).
        config: ``vector_bytes`` and ``layout_qualities``: V ranges each (least, most, step), of which each
            picture draws one number.
        side: of the layouts as pictures.

    Returns:
        Unit vectors float32 (N, V, D) and layout pictures uint8 (N, V, 3, side, side).
    """
    ranges = [*zip(config["vector_bytes"], config["layout_qualities"], strict=True)]
    unit = np.empty((len(vectors), len(ranges), codec.dim), np.float32)
    pictures = np.empty((len(vectors), len(ranges), 3, side, side), np.uint8)
    rng = np.random.default_rng(0)
    for version, (budgets, qualities) in enumerate(ranges):
        for budget, rows in _drawn(budgets, len(vectors), rng):
            rate = Rate(max_bytes=budget, layers="semantic")
            unit[rows, version] = decoded(codec, Layers(vectors[rows]), rate, side).vectors
        for quality, rows in _drawn(qualities, len(vectors), rng):
            rate = Rate(quality=quality, layers="layout")
            found = decoded(codec, Layers(layout=layouts[rows]), rate, side).layouts
            if found is not None:
                pictures[rows, version] = found.transpose(0, 3, 1, 2)
    return unit, pictures


def _drawn(limits: list[int], count: int, rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Numbers of a range, each with the rows that have drawn it."""
    least, most, step = limits
    drawn = rng.choice(np.arange(least, most + 1, step), count)
    return [(int(number), np.flatnonzero(drawn == number)) for number in np.unique(drawn)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--labels", type=Path, required=True, help="the teacher's classes, a line each")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="those of stage 1")
    parser.add_argument("--out", type=Path, required=True, help="folder of the other stages; gets codec.json")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    recipe = read_config(args.config)
    embedder = load_embedder(str(args.out / "clip"), device=args.device)
    files = sorted((args.out / "crops-decoder").glob("*-images.npy"))
    side = recipe["clip"]["model"]["vision_cfg"]["image_size"]
    vectors = {}
    for file in files:
        kept = beside(file, f"vectors-{embedder.space.fingerprint[:12]}")
        if not kept.exists():
            save(kept, embed_pictures(embedder, shrunk(np.load(file), side)))
        vectors[file] = np.load(kept)
    codec = FeatureCodec.fit_klt(vectors.values(), pack_space(embedder))
    codec.save(args.out / CODEC_FILE)
    print(f"{sum(map(len, vectors.values()))} vectors; codec {codec.tables_sha256[:12]}", flush=True)

    layout_side = recipe["decoder"]["layout"]
    for file in files:
        coded, shown = (beside(file, name) for name in coded_names(codec))
        if not shown.exists():
            layouts = layouts_of(np.load(file))
            unit, pictures = decoded_versions(
                codec, vectors[file], layouts, recipe["conditions"], layout_side
            )
            save(coded, unit.astype(np.float16))
            save(shown, pictures)
            print(shown.name, flush=True)

    photos = load_pictures(args.photos, _SHOWN_SIDE)
    classes = known_classes(photos, read_names(args.labels))
    rows = np.flatnonzero(classes >= 0)[-recipe["crops"]["kept_out"] :]
    images = photos.images[rows]
    layers = Layers(embed_pictures(embedder, shrunk(images, side)), layouts_of(images))
    arrays: dict[str, Any] = {"images": images, "classes": classes[rows]}
    for size in SHOWN_BYTES:
        found = decoded(codec, layers, Rate(max_bytes=size), layout_side)
        arrays |= {f"vectors{size}": found.vectors}
        arrays |= {f"layouts{size}": np.asarray(found.layouts).transpose(0, 3, 1, 2)}
    with atomic_writer(args.out / KEPT_OUT) as target:
        np.savez(target, **arrays)


if __name__ == "__main__":
    main()
