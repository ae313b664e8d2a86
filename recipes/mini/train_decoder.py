"""Stage 5: the diffusion decoder, trained on what the crops' streams decode to.

Run again after an interruption, it goes on. A decoder of another CLIP space can be taken over
(``reproject.py``).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import load_embedder
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import ArrayDataset
from clip_feature_codec.train.diffusion_train import fit
from code_crops import beside, coded_names, pack_space
from data import CONFIG, read_config


def make_dataset(crops: Path, codec: FeatureCodec, side: int) -> ArrayDataset:
    """The crops, made small to ``side`` pixels, with their decoded conditions."""
    coded, layouts = coded_names(codec)
    files = [file for file in sorted(crops.glob("*-images.npy")) if beside(file, layouts).exists()]
    images = np.concatenate([_shrunk(np.load(file), side) for file in files])
    vectors, shown = (
        np.concatenate([np.load(beside(file, name)) for file in files]) for name in (coded, layouts)
    )
    return ArrayDataset(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), vectors.astype(np.float32), shown)


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 (N, F side, F side, 3), each F × F pixels of which become one."""
    factor = images.shape[1] // side
    blocks = images.reshape(len(images), side, factor, side, factor, 3)
    small: np.ndarray = np.rint(blocks.mean((2, 4))).astype(np.uint8)
    return small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, required=True, help="folder of the other stages; gets decoder/")
    parser.add_argument("--init", type=Path, help="decoder of the same CLIP space to begin with")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = TrainConfig.from_dict(read_config(args.config)["decoder"])

    space = pack_space(load_embedder(str(args.out / "clip"), device=args.device))
    codec = FeatureCodec.load(args.out / CODEC_FILE)
    dataset = make_dataset(args.out / "crops-decoder", codec, config.out_size)
    weights = sum(parameter.numel() for parameter in config.build_unet(space.dim).parameters())
    print(f"{len(dataset)} pictures, {weights} weights")
    torch.set_float32_matmul_precision("high")
    print(fit(dataset, space, config, args.out / "decoder", args.device, init=args.init))


if __name__ == "__main__":
    main()
