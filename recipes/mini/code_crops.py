"""Stage 4: codec tables, and what streams of the painter's crops decode to.

The tables are fitted on the crops' own vectors. Each crop is coded to streams of several qualities and back;
the photographs that were kept out are coded to one size, to look at. What is there already is left as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.decoders.conditions import read_conditions
from clip_feature_codec.embed import load_embedder
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.preview import analyse
from data import CONFIG, load_pictures, read_config
from fit_text_tower import embed_pictures
from painter import Painter
from teacher import known_classes, read_names
from train_decoder import decoded_versions, pack_space


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
    files = sorted((args.out / "crops-painter").glob("*-images.npy"))
    side = recipe["clip"]["model"]["vision_cfg"]["image_size"]
    vectors = {}
    for file in files:
        kept = beside(file, f"vectors-{embedder.space.fingerprint[:12]}")
        if not kept.exists():
            save(kept, embed_pictures(embedder, np.load(file)))
        vectors[file] = np.load(kept)
    codec = FeatureCodec.fit_klt(vectors.values(), pack_space(embedder))
    codec.save(args.out / CODEC_FILE)
    print(f"{sum(map(len, vectors.values()))} vectors; codec {codec.tables_sha256[:12]}", flush=True)

    qualities = recipe["conditions"]["qualities"]
    for file in files:
        coded, layouts = (beside(file, name) for name in coded_names(codec))
        if not layouts.exists():
            unit, shown = decoded_versions(
                codec, vectors[file], layouts_of(np.load(file)), qualities, Painter.layout_side
            )
            save(coded, unit.astype(np.float16))
            save(layouts, shown)
            print(layouts.name, flush=True)

    photos = load_pictures(args.photos, side)
    classes = known_classes(photos, read_names(args.labels))
    rows = np.flatnonzero(classes >= 0)[-recipe["crops"]["kept_out"] :]
    images = photos.images[rows]
    layers = Layers(embed_pictures(embedder, images), layouts_of(images))
    blobs = codec.encode(layers, Rate(max_bytes=recipe["painter"]["shown_bytes"]))
    conditions = read_conditions(codec.parse_all(blobs), codec, Painter.layout_side)
    unit, shown = conditions.vectors, np.asarray(conditions.layouts).transpose(0, 3, 1, 2)
    with atomic_writer(args.out / "kept-out.npz") as target:
        np.savez(target, images=images, classes=classes[rows], vectors=unit, layouts=shown)


if __name__ == "__main__":
    main()
