"""Stage 3: codec tables and the diffusion decoder, trained on what the streams decode to.

Takes the CLIP model and the vectors of stage 2, so ``--data`` must be the same. Each vector is coded to a
stream and back, and the decoder learns to paint the picture from that. Run again after an interruption, it
goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tomllib
from pathlib import Path

import numpy as np
import torch

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import ArrayDataset
from clip_feature_codec.train.diffusion_train import fit
from data import load_pictures


def pack_space(embedder: ClipEmbedder) -> ClipSpace:
    """The space under the name by which the finished pack is found."""
    return dataclasses.replace(embedder.space, model="mini", pretrained="pack")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("config.toml"))
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="pictures, as for stage 2")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of stage 2; gets codec.json, decoder/"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = TrainConfig.from_dict(tomllib.loads(args.config.read_text())["decoder"])

    embedder = ClipEmbedder.load(str(args.out / "clip"), device=args.device)
    space = pack_space(embedder)
    vectors = np.load(args.out / "vectors.npy")
    codec = FeatureCodec.fit(vectors, space)
    codec.save(args.out / "codec.json")

    pictures = load_pictures(args.data, config.out_size)
    images = np.ascontiguousarray(pictures.images.transpose(0, 3, 1, 2))
    dataset = ArrayDataset(images, codec.decode(codec.encode(vectors)))
    weights = sum(parameter.numel() for parameter in config.build_unet(space.dim).parameters())
    print(f"{len(dataset)} pictures, {weights} weights")
    torch.set_float32_matmul_precision("high")
    print(fit(dataset, space, config, args.out / "decoder", args.device))


if __name__ == "__main__":
    main()
