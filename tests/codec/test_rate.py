"""What may be asked of a stream's size: faults 8 and 10."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codec_samples import cosines

from clip_feature_codec.codec.bitstream import MAX_STREAM_BYTES
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 140.0}, "max bytes: found 140.0, expected a whole number"),
        ({"max_bytes": "140"}, "max bytes: found '140', expected a whole number"),
        ({"max_bytes": True}, "max bytes: found True, expected a whole number"),
        ({"target_cosine": "0.9"}, "target cosine: found '0.9', expected a number"),
        ({"quality": [50]}, r"quality: found \[50\], expected a number"),
    ],
)
def test_fault_10_values_that_are_no_numbers(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rate(**options)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    assert Rate(max_bytes=np.int64(140)).max_bytes == 140
    assert Rate(target_cosine=np.float32(0.5)).target_cosine == 0.5


@pytest.mark.parametrize("budget", [MAX_STREAM_BYTES + 1, 2**63, 10**30])
def test_fault_10_a_budget_above_the_largest_stream_is_that(
    klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray, budget: int
) -> None:
    layers = Layers(vectors[:2], layouts[:2])
    largest = klt.encode(layers, Rate(max_bytes=MAX_STREAM_BYTES))
    assert klt.encode(layers, Rate(max_bytes=budget)) == largest


@pytest.mark.parametrize("seed", range(10))
def test_fault_8_the_target_that_a_refusal_advises_is_met(seed: int, klt: FeatureCodec) -> None:
    found = np.random.default_rng(seed).normal(size=(40, klt.dim)).astype(np.float32)
    for codec in (klt, FeatureCodec.fit(found, klt.space)):
        with pytest.raises(ConfigError, match="expected at most") as refusal:
            codec.encode(Layers(found), Rate(target_cosine=1 - 1e-12))
        advised = float(re.findall(r"at most (0\.\d+)", str(refusal.value))[0])
        blobs = codec.encode(Layers(found), Rate(target_cosine=advised))
        assert cosines(codec, found, blobs).min() >= advised - 1e-8  # float32 vectors
