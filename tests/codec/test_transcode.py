from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from codec_samples import ASPECTS, COUNT, coded, correlated, cosines

from clip_feature_codec.codec import transcode as transcoding
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.errors import BitstreamError, ConfigError, MissingLayerError, SpaceMismatchError


def transcode(blobs: list[bytes], rate: Rate, source: FeatureCodec, target: FeatureCodec) -> list[bytes]:
    return transcoding.transcode(source.parse_all(blobs), rate, source, target)


@pytest.fixture
def blobs(klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray) -> list[bytes]:
    return coded(klt, vectors, ASPECTS, layouts, Rate(quality=80))


def test_smaller_streams_of_the_same_pictures(
    klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray, blobs: list[bytes]
) -> None:
    again = transcode(blobs, Rate(max_bytes=90), klt, klt)
    assert all(len(new) <= 90 < len(old) for old, new in zip(blobs, again, strict=True))
    assert [klt.parse(blob).aspect for blob in again] == [klt.parse(blob).aspect for blob in blobs]
    direct = coded(klt, vectors, ASPECTS, layouts, Rate(max_bytes=90))
    assert cosines(klt, vectors, again).mean() > cosines(klt, vectors, direct).mean() - 0.01


def test_dropping_a_layer_leaves_the_other_as_it_is(klt: FeatureCodec, blobs: list[bytes]) -> None:
    for layer, other in (("semantic", "layout"), ("layout", "semantic")):
        for old, new in zip(blobs, transcode(blobs, Rate(quality=100, layers=layer), klt, klt), strict=True):
            assert getattr(klt.parse(new), layer) == getattr(klt.parse(old), layer)
            assert getattr(klt.parse(new), other) is None


def test_streams_that_fit_are_left_as_they_are(klt: FeatureCodec, blobs: list[bytes]) -> None:
    assert transcode(blobs, Rate(max_bytes=1000), klt, klt) == blobs
    assert transcode(blobs, Rate(quality=100), klt, klt) == blobs


def test_streams_with_different_layers_keep_their_order(
    klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray
) -> None:
    both, semantic, layout = (
        coded(klt, vectors, ASPECTS, layouts, Rate(layers=layers))
        for layers in ("both", "semantic", "layout")
    )
    mixed = [(both, semantic, layout)[i % 3][i] for i in range(COUNT)]
    again = transcode(mixed, Rate(max_bytes=50), klt, klt)
    for i, blob in enumerate(again):
        stream = klt.parse(blob)
        assert (stream.semantic is None) == (i % 3 == 2)
        assert (stream.layout is None) >= (i % 3 == 1)
        assert len(blob) <= 50
    with pytest.raises(
        MissingLayerError, match="semantic layer: found none in stream 3, expected one to keep"
    ):
        transcode(mixed, Rate(layers="semantic"), klt, klt)


def test_to_other_tables(klt: FeatureCodec, vectors: np.ndarray, layouts: np.ndarray) -> None:
    plain = FeatureCodec.fit(correlated(100, klt.dim, 7), klt.space)
    old = coded(plain, vectors, ASPECTS, layouts)
    new = transcode(old, Rate(target_cosine=0.98), plain, klt)
    assert sum(map(len, new)) < sum(map(len, old))
    assert cosines(klt, vectors, new).min() > 0.975
    with pytest.raises(BitstreamError, match="codec id: found"):
        transcode(old, Rate(), klt, klt)
    with pytest.raises(ConfigError, match="max bytes: found 60, expected at least"):
        transcode(old, Rate(max_bytes=60), plain, plain)


def test_another_clip_space_is_refused(klt: FeatureCodec, blobs: list[bytes]) -> None:
    other = FeatureCodec(dataclasses.replace(klt.space, weights_sha256="cd" * 32), klt.semantic)
    with pytest.raises(SpaceMismatchError, match="the streams to transcode"):
        transcode(blobs, Rate(), klt, other)
