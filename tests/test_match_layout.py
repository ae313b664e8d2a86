"""`preview.match_layout`: low frequencies brought to what the layout layer says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.errors import MissingLayerError
from clip_feature_codec.preview import MATCH_REACH, analyse, match_layout
from clip_feature_codec.reconstruct import paint
from samples import make_decoder, make_picture

SPACE = ClipSpace("tiny", "test", "ab" * 32, 24, {"size": 16})
SIDE = 96


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.fit(np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32), SPACE)


def coded(codec: FeatureCodec, picture: Image.Image, layers: str = "both") -> Stream:
    vector = np.ones((1, 24), np.float32)
    (blob,) = codec.encode(Layers(vector, analyse(picture)[None]), Rate(layers=layers))
    return codec.parse(blob)


def noisy(picture: Image.Image, seed: int) -> Image.Image:
    """Another colour, and noise of all frequencies."""
    noise = np.random.default_rng(seed).normal(20, 25, (picture.height, picture.width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) * 0.6 + 30 + noise, 0, 255).astype(np.uint8))


def error(picture: Image.Image, original: Image.Image) -> float:
    return float(np.square(np.asarray(picture, float) - np.asarray(original, float)).mean())


@pytest.mark.parametrize("seed", range(4))
def test_a_painted_picture_comes_nearer_to_the_original(codec: FeatureCodec, seed: int) -> None:
    original = make_picture(seed, (SIDE, SIDE))
    painted = noisy(original, seed)
    matched = match_layout(painted, coded(codec, original), codec)
    assert error(matched, original) < 0.6 * error(painted, original)


def test_coefficients_end_within_reach_and_what_is_within_stays(codec: FeatureCodec) -> None:
    grey = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    original = Image.blend(make_picture(5, (SIDE, SIDE)), grey, 0.7)  # so that nothing is clipped
    stream = coded(codec, original)
    (told,) = codec.layouts([stream])
    span = MATCH_REACH * codec.layout.step_of(stream.layout or b"")
    matched = match_layout(Image.blend(noisy(original, 1), grey, 0.6), stream, codec)
    assert np.abs(analyse(matched) - told).max() <= span + 0.05 * 64  # rounded and clipped to 8 bits
    assert match_layout(matched, stream, codec, reach=2 * MATCH_REACH).tobytes() == matched.tobytes()


def test_high_frequencies_are_left_alone(codec: FeatureCodec) -> None:
    original = make_picture(6, (SIDE, SIDE))
    stripes = np.where(np.arange(SIDE)[None, :, None] % 2, 20, -20) + np.full((SIDE, SIDE, 3), 128)
    painted = Image.fromarray(stripes.astype(np.uint8))
    matched = np.asarray(match_layout(painted, coded(codec, original), codec), float)
    smooth = (matched[:, 1:] + matched[:, :-1]) / 2
    assert np.abs(np.diff(matched, axis=1)).mean() > 30
    assert np.abs(np.diff(smooth, axis=1)).mean() < 8


def test_it_is_an_option_of_painting_by_any_decoder(codec: FeatureCodec) -> None:
    decoder = make_decoder(SPACE)
    stream = coded(codec, make_picture(7, (SIDE, SIDE)))
    options = {"steps": 2, "size": 16, "square": True}
    (plain,) = paint([stream], codec, decoder, PaintOptions(**options))
    (matched,) = paint([stream], codec, decoder, PaintOptions(**options, match_layout=True))
    assert matched.tobytes() == match_layout(plain, stream, codec).tobytes() != plain.tobytes()


def test_without_a_layout_there_is_nothing_to_match(codec: FeatureCodec) -> None:
    decoder = make_decoder(SPACE)
    stream = coded(codec, make_picture(7, (SIDE, SIDE)), "semantic")
    plain, asked = (
        next(paint([stream], codec, decoder, PaintOptions(steps=2, size=16, match_layout=match)))
        for match in (False, True)
    )
    assert plain.tobytes() == asked.tobytes()
    with pytest.raises(MissingLayerError):
        match_layout(plain, stream, codec)
