"""It must really learn: eight photos come back from their streams alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.images import squash, to_pictures
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import ArrayDataset
from clip_feature_codec.train.diffusion_train import fit

SIZE = 64


def photos():
    astronaut, coffee, cat = data.astronaut(), data.coffee(), data.chelsea()
    crops = [astronaut[:256, :256], coffee[100:350, 200:450], cat[:200, 100:300]]
    whole = [astronaut, coffee, cat, data.rocket(), data.hubble_deep_field()]
    squares = [np.asarray(squash(Image.fromarray(photo), SIZE)) for photo in [*whole, *crops]]
    return np.stack(squares).transpose(0, 3, 1, 2).copy()


def psnr(one, other):
    return 10 * math.log10(255**2 / np.mean((one.astype(np.float64) - other) ** 2))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_photos_come_back_from_their_streams(tmp_path):
    originals = photos()
    # Random directions stand in for CLIP's; what is tested is that the decoder learns what they stand for.
    vectors = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    codec = FeatureCodec.fit(vectors, ClipSpace("random", "none", "0" * 64, 64, {}))
    streams = codec.parse_all(codec.encode(Layers(vectors)))
    config = TrainConfig(
        out_size=SIZE,
        max_steps=2200,
        epochs=2200,
        batch_size=8,
        clip_w=0.0,
        tv_w=0.0,
        lr=2e-3,
        warmup_steps=50,
        ema_decay=0.995,
        cond_dropout=0.0,
        prediction="v",
        zero_terminal_snr=True,
        base=64,
        ch_mult=(1, 1, 1),
        num_res_blocks=1,
        patch=4,
        layout=0,
        val_fraction=0.0,
        sample_every=0,
        workers=0,
    )
    dataset = ArrayDataset(originals, codec.vectors(streams))
    decoder = load_decoder(fit(dataset, codec.space, config, tmp_path, "cpu"))

    z = torch.from_numpy(codec.vectors(streams))
    painted = sample(
        decoder.denoiser,
        sampling_plan("ddim", decoder.scheduler, 20),
        z,
        size=SIZE,
        generators=noise_generators(0, [stream.blob for stream in streams]),
    )
    pictures = [np.asarray(picture).transpose(2, 0, 1) for picture in to_pictures(painted)]
    for number, picture in enumerate(pictures):
        closeness = [psnr(picture, original) for original in originals]
        assert int(np.argmax(closeness)) == number
        assert closeness[number] >= 20
