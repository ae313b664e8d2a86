"""What the page writes, without its networks: the loops are those of the package, compiled for browsers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from engines import in_node, needs_node
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.packs import pack_folder
from clip_feature_codec.preview import analyse
from samples import make_picture

pytestmark = needs_node
LIMITS = [7, 30, 60, 140, 300, 600]
SIZE = 96  # pictures are not resized on the way into a layout


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return [Image.fromarray(noise), *(make_picture(seed, (SIZE, SIZE)) for seed in range(5))]


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return ClipCodec.load(device="cpu").features


@pytest.fixture(scope="module")
def vectors(pictures: list[Image.Image]) -> np.ndarray:
    return ClipCodec.load(device="cpu").embedder.embed_images(pictures)


@pytest.fixture(scope="module")
def given(pictures: list[Image.Image], vectors: np.ndarray) -> dict[str, Any]:
    pixels = [[*picture.convert("RGBA").tobytes()] for picture in pictures]
    pack = pack_folder("mini")
    assert pack is not None
    return {
        "codec": json.loads((pack / "codec.json").read_bytes()),
        "vectors": vectors.tolist(),
        "pictures": [{"width": SIZE, "height": SIZE, "data": data} for data in pixels],
    }


def test_pictures_are_taken_apart_alike(given: dict[str, Any], pictures: list[Image.Image]):
    found = in_node("coding.mjs", "analysed", {"pictures": given["pictures"]})
    np.testing.assert_array_equal(found, [analyse(picture) for picture in pictures])


def test_payloads_are_the_packages(
    given: dict[str, Any], codec: FeatureCodec, pictures: list[Image.Image], vectors: np.ndarray
):
    steps = [40, 75, 107, 150]
    found = in_node("coding.mjs", "payloads", given | {"steps": steps})
    layouts = np.stack([analyse(picture) for picture in pictures])
    for column, step in enumerate(steps):
        all_steps = np.full(len(pictures), step)
        expected = codec.semantic.encode(vectors, all_steps)
        assert [bytes(row[column]) for row in found["semantic"]] == expected
        expected = codec.layout.encode(layouts, all_steps)
        rows = [bytes(row[column]) for row in found["layout"]]
        # Beyond 255 bytes the package takes a coarser step.
        assert [row for row in rows if len(row) <= 255] == [
            there for row, there in zip(rows, expected, strict=True) if len(row) <= 255
        ]


def test_budgets_are_used_as_well(
    given: dict[str, Any], codec: FeatureCodec, pictures: list[Image.Image], vectors: np.ndarray
):
    found = in_node("coding.mjs", "streams", given | {"limits": LIMITS})
    layouts = np.stack([analyse(picture) for picture in pictures])
    layers, ratios = Layers(vectors, layouts), []
    for column, limit in enumerate(LIMITS):
        here = [codec.parse(bytes(row[column])) for row in found]
        there = [codec.parse(blob) for blob in codec.encode(layers, Rate(max_bytes=limit))]
        assert max(len(stream.blob) for stream in here) <= limit
        assert [stream.layout is None for stream in here] == [stream.layout is None for stream in there]
        cosines = [(codec.vectors(streams) * vectors).sum(axis=1).mean() for streams in (here, there)]
        assert cosines[0] > cosines[1] - 0.005
        rows = [row for row, stream in enumerate(there) if stream.layout is not None]
        if rows:
            coded = [codec.layouts([streams[row] for row in rows]) for streams in (here, there)]
            errors = [np.square(each - layouts[rows]).sum(axis=1) for each in coded]
            ratios += np.log(errors[0] / errors[1]).tolist()
    assert np.mean(ratios) < 0.03  # pages look otherwise, and are lucky at other budgets
