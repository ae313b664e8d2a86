"""Stage 8: put the results of the other stages together as a pack: weights in float16, networks as graphs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from clip_feature_codec.decoders.checkpoint import export_decoder, load_decoder, save_decoder
from clip_feature_codec.names import CODEC_FILE, DECODER_FOLDER
from export_graphs import export_pack
from train_upsampler import WHOLE_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="the other stages' --out")
    parser.add_argument("--pack", type=Path, required=True, help="folder of the pack")
    args = parser.parse_args()

    (args.pack / "clip").mkdir(parents=True, exist_ok=True)
    for name in ("clip/open_clip_config.json", "clip/open_clip_model.safetensors", CODEC_FILE):
        shutil.copy(args.work / name, args.pack / name)
    whole = load_decoder(args.work / "decoder" / WHOLE_FILE)
    save_decoder(args.work / "packed.safetensors", whole, dtype=torch.float16)
    export_decoder(args.work / "packed.safetensors", args.pack / DECODER_FOLDER, whole.space)
    export_pack(args.pack)
    files = [path for path in args.pack.rglob("*") if path.is_file()]
    for path in files:
        print(f"{path.stat().st_size / 1e6:7.2f} MB  {path.relative_to(args.pack)}")
    print(f"{sum(path.stat().st_size for path in files) / 1e6:7.2f} MB  in all")


if __name__ == "__main__":
    main()
