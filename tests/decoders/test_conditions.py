from __future__ import annotations

import numpy as np
import pytest

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import Conditions, read_conditions
from clip_feature_codec.errors import BitstreamError, MissingLayerError
from samples import make_layouts

SPACE = ClipSpace("tiny", "test", "ab" * 32, 24, {"size": 16})
SIDE = 10


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.fit(np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32), SPACE)


@pytest.fixture(scope="module")
def streams(codec: FeatureCodec) -> dict[str, Stream]:
    vectors = np.random.default_rng(1).normal(size=(1, 24)).astype(np.float32)
    layouts = make_layouts(codec, 1)
    pictures = {
        "both": Layers(vectors, layouts),
        "vector": Layers(vectors),
        "layout": Layers(layout=layouts, aspects=[2.0]),
    }
    return {name: codec.parse(codec.encode(picture)[0]) for name, picture in pictures.items()}


def test_each_row_has_what_its_stream_holds(codec: FeatureCodec, streams: dict[str, Stream]) -> None:
    chosen = [streams[name] for name in ("layout", "both", "vector")]
    found = read_conditions(chosen, codec, SIDE)
    assert found.ignored == 0
    assert found.present.tolist() == [True, True, False]
    assert found.vectors.dtype == np.float32
    assert not found.vectors[0].any()
    assert np.array_equal(found.vectors[1:], codec.vectors(chosen[1:]))
    assert found.layouts is not None
    shown = codec.layout.render(codec.layouts(chosen[:1])[0], SIDE, SIDE)
    assert np.array_equal(found.layouts[0], shown)
    assert np.array_equal(found.layouts[1], found.layouts[0])
    assert not found.layouts[2].any()
    assert found.aspects.tolist() == [pytest.approx(2.0, rel=0.02), 1.0, 1.0]


def test_parts_are_joined_to_what_they_are_together(codec: FeatureCodec, streams: dict[str, Stream]) -> None:
    chosen = [streams[name] for name in ("vector", "both", "vector", "layout")]
    for side, some in ((SIDE, chosen), (0, chosen[:3])):
        whole = read_conditions(some, codec, side)
        parts = Conditions.joined([read_conditions([stream], codec, side) for stream in some])
        for name, value in vars(whole).items():
            assert np.array_equal(getattr(parts, name), value)


def test_layouts_that_a_decoder_does_not_take_are_counted(
    codec: FeatureCodec, streams: dict[str, Stream]
) -> None:
    found = read_conditions([streams["both"], streams["vector"], streams["both"]], codec, 0)
    assert found.ignored == 2
    assert found.layouts is None
    assert not found.present.any()
    assert np.array_equal(found.vectors, codec.vectors([streams["both"]] * 3))


def test_a_stream_without_anything_usable_is_named(codec: FeatureCodec, streams: dict[str, Stream]) -> None:
    with pytest.raises(MissingLayerError, match=r"^stream 2 of 2: .*found a layout alone.*takes no layouts"):
        read_conditions([streams["both"], streams["layout"]], codec, 0)
    with pytest.raises(MissingLayerError, match=r"^layers: found a layout alone"):
        read_conditions([streams["layout"]], codec, 0)


def test_a_damaged_stream_is_named_by_its_place_among_all(
    codec: FeatureCodec, streams: dict[str, Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Past the checksum, only the layer's own coder finds out: of the rows that have one, it is the second.
    whole, bad = streams["vector"], codec.parse(codec.encode(Layers(np.ones((1, 24), np.float32)))[0])
    payload = bad.semantic

    def decode(payloads: list[bytes]) -> np.ndarray:
        if payload in payloads:
            raise BitstreamError("semantic layer: found damage")
        return np.zeros((len(payloads), 24), np.float32)

    monkeypatch.setattr(type(codec.semantic), "decode", lambda self, payloads: decode(payloads))
    with pytest.raises(BitstreamError, match=r"^stream 3 of 3: semantic layer: found damage$"):
        read_conditions([streams["layout"], whole, bad], codec, SIDE)


def test_no_streams_are_no_conditions(codec: FeatureCodec) -> None:
    assert read_conditions([], codec, SIDE).vectors.shape == (0, 24)
