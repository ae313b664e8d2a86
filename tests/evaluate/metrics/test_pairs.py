"""Batches of pairs give the values of single pairs, of the formulas and of the usual packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import disturbed, picture
from PIL import Image

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.networks import Dists, Lpips
from clip_feature_codec.evaluate.metrics.pairs import PIXELS_AT_ONCE, PairMetrics
from clip_feature_codec.evaluate.metrics.pixels import psnr, ssim
from clip_feature_codec.images import to_tensor

SHAPES = [(176, 192), (161, 203), (64, 64), (10, 30), (176, 192), (40, 12)]
ORIGINALS = [picture(*shape, seed) for seed, shape in enumerate(SHAPES)]
DECODED = [disturbed(original, 15 * seed + 3) for seed, original in enumerate(ORIGINALS)]


def images(pictures: list[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(array) for array in pictures]


@pytest.fixture
def without_networks(checkpoints: Path) -> PairMetrics:
    return PairMetrics.load()


def test_pairs_of_mixed_sizes_agree_with_single_ones_in_their_order(without_networks: PairMetrics):
    results = without_networks(images(ORIGINALS), images(DECODED))
    assert len(results) == len(SHAPES)
    for result, a, b in zip(results, ORIGINALS, DECODED, strict=True):
        assert result["psnr"] == pytest.approx(psnr(a, b), abs=1e-9)
        assert result["ssim"] == (None if ssim(a, b) is None else pytest.approx(ssim(a, b), abs=1e-9))
    assert [result["ms_ssim"] is None for result in results] == [min(shape) < 161 for shape in SHAPES]


def test_more_pairs_than_one_batch_holds(without_networks: PairMetrics):
    count = PIXELS_AT_ONCE // 64**2 + 3
    originals = [picture(64, 64, seed) for seed in range(4)]
    a = images([originals[i % 4] for i in range(count)])
    b = images([disturbed(originals[i % 4], 10, seed=i) for i in range(count)])
    results = without_networks(a, b)
    expected = [psnr(x, y) for x, y in zip(a, b, strict=True)]
    assert [result["psnr"] for result in results] == pytest.approx(expected, abs=1e-9)


def test_networks_are_asked_where_they_are(backbones: Path):
    metrics = PairMetrics.load()
    assert metrics.unavailable == {}
    assert list(metrics.metrics) == ["psnr", "ssim", "ms_ssim", "lpips", "dists"]
    assert metrics.metrics["lpips"] == Lpips().metric
    small = [2, 3, 5]
    a, b = (images([p[i] for i in small]) for p in (ORIGINALS, DECODED))
    results = metrics(a, b)
    for network in (Lpips(), Dists()):
        expected = [network(to_tensor([x]), to_tensor([y]))[0] for x, y in zip(a, b, strict=True)]
        for result, value in zip(results, expected, strict=True):
            assert result[network.name] == (None if value is None else pytest.approx(value, abs=1e-5))
    assert [result["lpips"] is None for result in results] == [False, True, True]


def test_what_is_missing_is_listed_with_the_reason(without_networks: PairMetrics):
    assert set(without_networks.metrics) == {"psnr", "ssim", "ms_ssim"}
    assert set(without_networks.unavailable) == {"lpips", "dists"}
    assert "AlexNet" in without_networks.unavailable["lpips"]
    assert "VGG16" in without_networks.unavailable["dists"]
    (result,) = without_networks(images(ORIGINALS[:1]), images(DECODED[:1]))
    assert result.keys() == without_networks.metrics.keys()


def test_identical_pictures(without_networks: PairMetrics):
    a = images(ORIGINALS[:1])
    (result,) = without_networks(a, a)
    assert result["psnr"] is None
    assert result["ssim"] == pytest.approx(1.0, abs=1e-12)
    assert result["ms_ssim"] == pytest.approx(1.0, abs=1e-12)


def test_no_pairs_at_all(without_networks: PairMetrics):
    assert without_networks([], []) == []


@pytest.mark.parametrize(
    ("originals", "others", "message"),
    [
        ([Image.new("RGB", (4, 5))], [Image.new("RGB", (5, 4))], "RGB 4×5 and RGB 5×4"),
        ([Image.new("L", (4, 4))], [Image.new("L", (4, 4))], "L 4×4"),
        ([Image.new("RGB", (4, 4))], [], "found 1 and 0"),
    ],
)
def test_what_is_no_pair_is_refused(without_networks: PairMetrics, originals, others, message: str):
    with pytest.raises(MetricError, match=message):
        without_networks(originals, others)
