from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.decoders.conditions import Conditions, read_conditions
from clip_feature_codec.decoders.diffusion import DiffusionDecoder as Decoder
from clip_feature_codec.decoders.options import OUR_SAMPLING, PaintOptions
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import BitstreamError, ConfigError, MissingLayerError, SpaceMismatchError
from clip_feature_codec.images import resize_to
from clip_feature_codec.reconstruct import paint, painted_size
from samples import make_decoder, make_layouts

SPACE = ClipSpace("tiny", "test", "ab" * 32, 24, {"size": 16})
ASPECTS = (1.0, 2.0, 0.5, 1.5, 0.01)
QUICK = PaintOptions(steps=3, size=16).settled(OUR_SAMPLING)


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.fit(np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32), SPACE)


@pytest.fixture(scope="module")
def streams(codec: FeatureCodec) -> list[Stream]:
    vectors = np.random.default_rng(1).normal(size=(len(ASPECTS), 24)).astype(np.float32)
    return codec.parse_all(codec.encode(Layers(vectors, aspects=ASPECTS)))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder(SPACE)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.int64)


def test_a_square_picture_at_the_canvas_s_size_is_the_sample_itself(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    x = sample(
        decoder.denoiser,
        sampling_plan("dpm-solver++", decoder.scheduler, QUICK.steps),
        torch.from_numpy(codec.vectors(streams[:1])),
        size=16,
        guidance=QUICK.guidance,
        generators=noise_generators(0, [streams[0].blob]),
    )
    expected = np.rint((x[0].permute(1, 2, 0).double().numpy() + 1) * 127.5)
    (picture,) = paint(streams[:1], codec, decoder, QUICK)
    assert (picture.mode, picture.size) == ("RGB", (16, 16))
    assert np.abs(pixels(picture) - expected).max() <= 1


def test_a_picture_is_the_same_alone_and_in_any_batch(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    options = PaintOptions(steps=4, sampler="ddim", eta=0.8, guidance=1.5, size=20)
    alone = [next(paint([stream], codec, decoder, options)) for stream in streams]
    assert all(pixels(picture).std() > 5 for picture in alone[:4])
    for batch_size in (2, len(streams)):
        together = list(paint(streams, codec, decoder, options, batch_size))
        assert len(together) == len(streams)
        for first, second in zip(alone, together, strict=True):
            assert np.abs(pixels(first) - pixels(second)).max() <= 1
    turned = list(paint(streams[::-1], codec, decoder, options))
    assert np.abs(pixels(turned[-1]) - pixels(alone[0])).max() <= 1


def test_size_is_the_longer_side_and_the_stream_s_aspect_the_shape(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    options = replace(QUICK, steps=1, size=60)
    sizes = [picture.size for picture in paint(streams, codec, decoder, options)]
    assert sizes == [(60, 60), (60, 30), (30, 60), (60, 40), (1, 60)]
    assert [painted_size(stream, options) for stream in streams] == sizes


def test_square_leaves_the_canvas_as_it_is(streams: list[Stream], codec: FeatureCodec, decoder: Decoder):
    options = replace(QUICK, steps=1, square=True)
    assert [picture.size for picture in paint(streams, codec, decoder, options)] == [(16, 16)] * len(streams)


def test_saved_weights_paint_the_same_picture(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder, tmp_path: Path
):
    save_decoder(tmp_path / "decoder.pt", decoder)
    loaded = load_decoder(tmp_path / "decoder.pt")
    for first, second in zip(
        paint(streams, codec, decoder, QUICK), paint(streams, codec, loaded, QUICK), strict=True
    ):
        assert np.abs(pixels(first) - pixels(second)).max() <= 1


def test_the_vector_the_seed_and_guidance_decide(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    def painted(stream: Stream, **options: float) -> np.ndarray:
        return pixels(
            next(paint([stream], codec, decoder, PaintOptions(steps=2, size=16, square=True, **options)))
        )

    first = painted(streams[0])
    assert (painted(streams[0]) == first).all()
    for other in (painted(streams[1]), painted(streams[0], seed=1), painted(streams[0], guidance=4.0)):
        assert np.abs(other - first).max() > 5


@pytest.fixture(scope="module")
def shown(codec: FeatureCodec) -> Decoder:
    """A decoder that takes layouts."""
    decoder = make_decoder(SPACE, layout=6)
    assert decoder.unet.layout_proj is not None
    torch.nn.init.normal_(
        decoder.unet.layout_proj.weight, std=0.5, generator=torch.Generator().manual_seed(0)
    )
    return decoder


@pytest.fixture(scope="module")
def mixed(codec: FeatureCodec) -> list[Stream]:
    """Streams with both layers, the vector alone, and the layout alone, all of different pictures."""
    vectors = np.random.default_rng(2).normal(size=(2, 24)).astype(np.float32)
    layouts = make_layouts(codec, 2)
    pictures = [
        Layers(vectors[:1], layouts[:1], [1.5]),
        Layers(vectors[1:], aspects=[0.5]),
        Layers(layout=layouts[1:], aspects=[2.0]),
    ]
    return [codec.parse(codec.encode(picture)[0]) for picture in pictures]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_streams_with_either_layer_or_both_stand_side_by_side(
    mixed: list[Stream], codec: FeatureCodec, shown: Decoder, guidance: float
):
    options = PaintOptions(steps=4, size=20, guidance=guidance)
    alone = [next(paint([stream], codec, shown, options)) for stream in mixed]
    assert [picture.size for picture in alone] == [(20, 13), (10, 20), (20, 10)]
    for together in (paint(mixed, codec, shown, options), paint(mixed, codec, shown, options, 2)):
        for first, second in zip(alone, together, strict=True):
            assert np.abs(pixels(first) - pixels(second)).max() <= 1


def test_each_layer_decides(mixed: list[Stream], codec: FeatureCodec, shown: Decoder):
    """Noise follows from the stream's bytes, so it is held still here to see what the layers do."""

    def painted(vector: Stream | None, layout: Stream | None) -> np.ndarray:
        parts = {"vector": vector, "layout": layout}
        told = {name: read_conditions([stream], codec, 6) for name, stream in parts.items() if stream}
        conditions = Conditions(
            told["vector"].vectors if vector else np.zeros((1, 24), np.float32),
            told["layout"].layouts if layout else None,
            np.array([layout is not None]),
            np.ones(1),
            0,
        )
        (picture,) = shown.paint(conditions, replace(QUICK, guidance=1.0), [b"same"])
        return floats(picture)

    vectors, layouts = mixed[:2], [mixed[0], mixed[2]]
    whole = painted(vectors[0], layouts[0])
    others = [(vectors[1], layouts[0]), (vectors[0], layouts[1]), (vectors[0], None), (None, layouts[0])]
    assert all(np.abs(painted(*other) - whole).max() > 2 for other in others)


def test_a_decoder_without_layouts_says_once_that_it_ignores_them(
    mixed: list[Stream], codec: FeatureCodec, decoder: Decoder, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        list(paint([mixed[0]] * 3, codec, decoder, QUICK, batch_size=1))
        assert caplog.messages == [
            "this decoder takes no layouts: the layout layers of the streams are ignored; --match-layout "
            "gives what it paints their low frequencies"
        ]
        list(paint(mixed[1:2], codec, decoder, QUICK))
    assert len(caplog.messages) == 1
    with pytest.raises(MissingLayerError, match=r"stream 3 of 3: .*this decoder takes no layouts"):
        list(paint(mixed, codec, decoder, QUICK))


def test_no_streams_are_no_pictures(codec: FeatureCodec, decoder: Decoder):
    assert list(paint([], codec, decoder, QUICK)) == []


def test_a_decoder_of_another_space_is_refused(streams: list[Stream], codec: FeatureCodec):
    other = make_decoder(replace(SPACE, model="other", weights_sha256="cd" * 32))
    with pytest.raises(SpaceMismatchError, match=r"tiny/test.*other/test"):
        next(paint(streams, codec, other, QUICK))


def test_a_damaged_stream_is_refused(streams: list[Stream], codec: FeatureCodec, decoder: Decoder):
    bad = replace(streams[1], semantic=b"")
    with pytest.raises(BitstreamError, match="stream 2 of 2"):
        list(paint([streams[0], bad], codec, decoder, QUICK))


def floats(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float64)


def test_fidelity_goes_from_the_sample_to_one_evaluation_without_guidance(
    streams: list[Stream], codec: FeatureCodec
):
    terminal = make_decoder(SPACE, zero_terminal_snr=True)
    square = replace(QUICK, square=True)
    chosen = {f: list(paint(streams, codec, terminal, replace(square, fidelity=f))) for f in (0.0, 0.25, 1.0)}
    means = list(paint(streams, codec, terminal, replace(square, steps=1, guidance=1.0)))
    samples = list(paint(streams, codec, terminal, square))
    for i, (sampled, mean) in enumerate(zip(samples, means, strict=True)):
        assert np.array_equal(floats(chosen[0.0][i]), floats(sampled))
        assert np.array_equal(floats(chosen[1.0][i]), floats(mean))
        between = 0.75 * floats(sampled) + 0.25 * floats(mean)
        assert np.abs(floats(chosen[0.25][i]) - between).max() <= 2
    assert np.abs(floats(samples[0]) - floats(means[0])).mean() > 5


def test_fidelity_needs_a_decoder_that_begins_with_pure_noise(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    with pytest.raises(ConfigError, match="zero_terminal_snr"):
        next(paint(streams, codec, decoder, replace(QUICK, fidelity=0.5)))


@pytest.mark.parametrize("size", [8, 16, 17, 64, 80])
def test_the_upsampler_has_its_part_in_every_size(
    size: int, streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    torch.manual_seed(0)
    upsampler = Upsampler(channels=8, blocks=1)
    torch.nn.init.normal_(upsampler.head.weight, std=0.1)
    with_detail = replace(decoder, upsampler=upsampler)
    whole = next(paint(streams, codec, with_detail, replace(QUICK, size=64)))
    options = replace(QUICK, size=size)
    found = next(paint(streams, codec, with_detail, options))
    assert np.array_equal(floats(found), floats(resize_to(whole, (size, size))))
    assert np.abs(floats(found) - floats(next(paint(streams, codec, decoder, options)))).max() > 2


def test_more_steps_than_the_decoder_has_are_refused(
    streams: list[Stream], codec: FeatureCodec, decoder: Decoder
):
    with pytest.raises(ConfigError, match="101 sampling steps"):
        next(paint(streams, codec, decoder, PaintOptions(steps=101)))


def test_progress_is_told_as_pictures_are_taken(streams: list[Stream], codec: FeatureCodec, decoder: Decoder):
    told: list[tuple[str, int, int]] = []
    painted = paint(streams[:3], codec, decoder, QUICK, 2, progress=lambda *call: told.append(call))
    next(painted)
    assert told == [("decoding", 0, 3)]
    list(painted)
    assert told == [("decoding", done, 3) for done in range(4)]


class Plain:
    """A decoder of another kind: it shows the first three numbers of a vector, and knows of no torch."""

    layout_side, image_size, has_fidelity = 0, 4, False
    space = SPACE

    def identity(self) -> str:
        return "plain"

    def paint(
        self, conditions: Conditions, options: PaintOptions, keys: Sequence[bytes]
    ) -> list[Image.Image]:
        colours = np.uint8(conditions.vectors[:, :3] * 127 + 128)
        return [Image.new("RGB", (4, 4), tuple(colour)) for colour in colours.tolist()]


def test_any_decoder_paints(streams: list[Stream], codec: FeatureCodec):
    pictures = list(paint(streams, codec, Plain(), QUICK, batch_size=2))
    assert [picture.size for picture in pictures] == [painted_size(stream, QUICK) for stream in streams]
    for picture, vector in zip(pictures, codec.vectors(streams), strict=True):
        assert picture.getpixel((0, 0)) == tuple((vector[:3] * 127 + 128).astype(int))
