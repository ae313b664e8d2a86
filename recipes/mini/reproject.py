"""Takes a decoder over into another CLIP space, to go on training from there (``train_decoder.py --init``).

The vectors that it knows are foretold from the new ones by least squares, over the same crops; its
projections of the vector take that up. All else stays as it is.

    python reproject.py OLD_PACK --out work --to projected.safetensors
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.embed import load_embedder
from clip_feature_codec.embed.openclip.preprocessing import input_size
from clip_feature_codec.names import DECODER_FOLDER, WEIGHTS_FILE
from code_crops import pack_space
from fit_text_tower import embed_pictures, shrunk

_SHRINKAGE = 1e-3  # of the normal equations, beside the mean square of a component
_PROJECTIONS = ("clip_proj.weight", "map_proj.weight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path, help="of the decoder and the CLIP model that it knows")
    parser.add_argument("--out", type=Path, required=True, help="folder of the other stages")
    parser.add_argument("--to", type=Path, required=True, help="the decoder in the new space")
    args = parser.parse_args()

    new, old = (
        load_embedder(str(folder), device="cpu") for folder in (args.out / "clip", args.pack / "clip")
    )
    crops = np.load(min((args.out / "crops-decoder").glob("*-images.npy")))
    told, wanted = (
        embed_pictures(embedder, shrunk(crops, input_size(embedder.space.preprocessing)[0])).astype(
            np.float64
        )
        for embedder in (new, old)
    )
    ridge = _SHRINKAGE * len(told) / new.dim * np.eye(new.dim)
    foretold = np.linalg.solve(told.T @ told + ridge, told.T @ wanted)
    left = np.square(wanted - told @ foretold).sum() / np.square(wanted).sum()
    print(f"{1 - left:.1%} of the old vectors is foretold")

    decoder = load_decoder(args.pack / DECODER_FOLDER / WEIGHTS_FILE)
    unet = CLIPCondUNet(UNetConfig(**decoder.unet.config.to_json() | {"clip_dim": new.dim}))
    weights = decoder.unet.state_dict()
    # The network multiplies unit vectors by the root of their length.
    through = torch.from_numpy(foretold.T * (old.dim / new.dim) ** 0.5).float()
    weights |= {name: weights[name] @ through for name in _PROJECTIONS}
    unet.load_state_dict(weights)
    taken = dataclasses.replace(decoder, unet=unet, space=pack_space(new), upsampler=None, extra={"steps": 0})
    save_decoder(args.to, taken)


if __name__ == "__main__":
    main()
