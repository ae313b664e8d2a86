from __future__ import annotations

import numpy as np
import pytest
from codec_samples import COUNT, correlated
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.preview import analyse

DIM = 64


@pytest.fixture(scope="session")
def space() -> ClipSpace:
    return ClipSpace("tiny", "test", "ab" * 32, DIM, {"size": 32, "mean": [0.5, 0.5, 0.5]})


@pytest.fixture(scope="session")
def codec(space: ClipSpace) -> FeatureCodec:
    """Fitted on channels of unlike means and spreads."""
    rng = np.random.default_rng(1)
    means, spreads = rng.normal(0, 1, DIM), rng.uniform(0.05, 1, DIM)
    return FeatureCodec.fit(rng.normal(means, spreads, size=(50, DIM)).astype(np.float32), space)


@pytest.fixture(scope="session")
def klt() -> FeatureCodec:
    dim = 128
    space = ClipSpace("tiny", "test", "ab" * 32, dim, {"size": 32})
    return FeatureCodec.fit_klt([correlated(500, dim, 1)], space)


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    return correlated(COUNT, 128, 2)


@pytest.fixture(scope="session")
def layouts() -> np.ndarray:
    """Pictures as photographs are: the finer, the fainter, and colours less than brightness."""
    rng = np.random.default_rng(5)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.rfftfreq(96), indexing="ij"))
    waves = np.fft.rfft2(rng.normal(0, 1, (COUNT, 4, 96, 96))) / (frequencies + 0.01) ** 1.3
    grey, colours = np.split(np.fft.irfft2(waves, (96, 96)), [1], axis=1)
    pixels = 127 + 40 * (grey + 0.3 * colours) / grey.std()
    pictures = np.clip(pixels, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.stack([analyse(Image.fromarray(picture)) for picture in pictures])
