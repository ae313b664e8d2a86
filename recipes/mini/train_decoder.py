"""Stage 5: the diffusion decoder, trained on what the streams decode to.

Takes the CLIP model and the codec tables of the stages before. Each picture's vector and layout are coded to
streams of several qualities and back, and the decoder learns to paint the picture from any of them. Run again
after an interruption, it goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import read_conditions
from clip_feature_codec.embed import Embedder, load_embedder
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import ArrayDataset
from clip_feature_codec.train.diffusion_train import fit
from data import CONFIG, load_layouts, load_pictures, read_config
from fit_text_tower import embed_pictures

_CODED_AT_ONCE = 4096


def pack_space(embedder: Embedder) -> ClipSpace:
    """The space under the name by which the finished pack is found."""
    return dataclasses.replace(embedder.space, model="mini", pretrained="pack")


def decoded_versions(
    codec: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray, qualities: list[list[int]], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """What V streams of each picture decode to.

    Args:
        codec: the tables.
        vectors: float32 (N, D).
        layouts: their pictures' layout coefficients (N, L).
        qualities: V ranges, both ends included; each picture draws a quality (see `Rate`) from each.
        side: of the layouts as pictures.

    Returns:
        Unit vectors float32 (N, V, D) and layout pictures uint8 (N, V, 3, side, side).
    """
    shape = (len(vectors), len(qualities))
    unit = np.empty((*shape, codec.dim), np.float32)
    pictures = np.empty((*shape, 3, side, side), np.uint8)
    rng = np.random.default_rng(0)
    for version, (low, high) in enumerate(qualities):
        drawn = rng.integers(low, high + 1, len(vectors))
        for quality in range(low, high + 1):
            alike = np.flatnonzero(drawn == quality)
            for start in range(0, len(alike), _CODED_AT_ONCE):
                rows = alike[start : start + _CODED_AT_ONCE]
                blobs = codec.encode(Layers(vectors[rows], layouts[rows]), Rate(quality=quality))
                conditions = read_conditions(codec.parse_all(blobs), codec, side)
                unit[rows, version] = conditions.vectors
                if conditions.layouts is not None:
                    pictures[rows, version] = conditions.layouts.transpose(0, 3, 1, 2)
    return unit, pictures


def make_dataset(
    sources: list[Path], embedder: Embedder, codec: FeatureCodec, recipe: dict[str, Any], work: Path
) -> ArrayDataset:
    """The pictures with their decoded conditions, which are kept in ``work`` for the next run."""
    config, qualities = TrainConfig.from_dict(recipe["decoder"]), recipe["conditions"]["qualities"]
    drawn = "-".join(f"{low}to{high}" for low, high in qualities)
    kept = work / f"conditions-{codec.tables_sha256[:12]}-{config.layout}-{drawn}.npz"
    if not kept.exists():
        side = recipe["clip"]["model"]["vision_cfg"]["image_size"]
        vectors = embed_pictures(embedder, load_pictures(sources, side).images)
        unit, shown = decoded_versions(codec, vectors, load_layouts(sources), qualities, config.layout)
        np.savez(kept.with_suffix(".part.npz"), vectors=unit, layouts=shown)
        kept.with_suffix(".part.npz").replace(kept)
    pictures = load_pictures(sources, config.out_size)
    with np.load(kept) as conditions:
        images = np.ascontiguousarray(pictures.images.transpose(0, 3, 1, 2))
        return ArrayDataset(images, conditions["vectors"], conditions["layouts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="pictures (Parquet, folders)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the other stages; gets decoder/")
    parser.add_argument(
        "--init", type=Path, help="decoder of the same CLIP space to begin with, such as an earlier pack's"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = read_config(args.config)
    config = TrainConfig.from_dict(recipe["decoder"])

    embedder = load_embedder(str(args.out / "clip"), device=args.device)
    space = pack_space(embedder)
    codec = FeatureCodec.load(args.out / CODEC_FILE)
    dataset = make_dataset(args.data, embedder, codec, recipe, args.out)
    weights = sum(parameter.numel() for parameter in config.build_unet(space.dim).parameters())
    print(f"{len(dataset)} pictures, {weights} weights")
    torch.set_float32_matmul_precision("high")
    print(fit(dataset, space, config, args.out / "decoder", args.device, init=args.init))


if __name__ == "__main__":
    main()
