"""Small things to work on, for tests of every folder: pictures, a store, a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from clip_feature_codec.codec.feature_codec import FeatureCodec
    from clip_feature_codec.codec.space import ClipSpace
    from clip_feature_codec.decoders.diffusion import DiffusionDecoder
    from clip_feature_codec.embed import ClipEmbedder
    from clip_feature_codec.evaluate.metrics.judge import Judge
    from clip_feature_codec.store.writing import WritableStore


TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TINY_PREPROCESSING = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def make_picture(seed: int, size: tuple[int, int] = (48, 36)) -> Image.Image:
    """A smooth colour picture that differs from seed to seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def make_layouts(codec: FeatureCodec, count: int) -> np.ndarray:
    """Layout coefficients (count, L) of `make_picture`'s pictures, as ``codec`` codes them."""
    side = codec.layout.canvas
    canvases = [np.asarray(make_picture(seed, (side, side))) for seed in range(count)]
    return np.stack([codec.layout.analyse(canvas) for canvas in canvases])


def make_decoder(
    space: ClipSpace, *, seed: int = 0, image_size: int = 16, layout: int = 0, zero_terminal_snr: bool = False
) -> DiffusionDecoder:
    """An untrained decoder for a space, small and quick, whose pictures depend on all that it is told."""
    import torch

    from clip_feature_codec.decoders.diffusion import DiffusionDecoder
    from clip_feature_codec.diffusion.config import UNetConfig
    from clip_feature_codec.diffusion.schedule import NoiseScheduler
    from clip_feature_codec.diffusion.unet import CLIPCondUNet

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = CLIPCondUNet(
            UNetConfig(space.dim, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, layout=layout)
        )
        for parameter in unet.parameters():
            if not parameter.any():  # training begins with zeros, which hide all that comes before them
                torch.nn.init.normal_(parameter, std=0.1)
    # Predicting epsilon would mean black and white only.
    scheduler = NoiseScheduler(timesteps=100, prediction="v", zero_terminal_snr=zero_terminal_snr)
    return DiffusionDecoder(unet.eval(), scheduler, space, image_size)


def make_store(folder: Path, embedder: ClipEmbedder, count: int = 4) -> Path:
    """``folder/photos``, wide and tall, one in a subfolder, and ``folder/store`` with a decoder."""
    from clip_feature_codec.decoders.checkpoint import save_decoder
    from clip_feature_codec.encode import encode_source
    from clip_feature_codec.names import DECODER_FILE

    photos, store = folder / "photos", folder / "store"
    (photos / "deep").mkdir(parents=True)
    for i in range(count):
        place = photos / "deep" if i == 2 else photos
        make_picture(i, (60 + i, 40) if i % 2 else (40, 50 + i)).save(place / f"p{i}.png")
    encode_source(photos, store, embedder, workers=0)
    save_decoder(store / DECODER_FILE, make_decoder(embedder.space))
    return store


def make_judge(folder: Path) -> Judge:
    """A small untrained image network in timm's folder format, loaded."""
    import timm
    import torch
    from timm.models import save_for_hf

    from clip_feature_codec.evaluate.metrics.judge import Judge

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(network, str(folder), safe_serialization=True)
    return Judge.load(folder)


def is_current(store: WritableStore, path: Path) -> bool:
    """Whether a picture is in a store as its file is now."""
    if not path.exists():
        return False
    status = path.stat()
    return store.has(path, status.st_size, status.st_mtime_ns)
