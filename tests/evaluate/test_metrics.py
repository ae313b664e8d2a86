"""Metrics agree with their formulas, with scikit-image, with torchmetrics and with the lpips package."""

from __future__ import annotations

import dataclasses
import json
import math
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics import METRICS, Lpips, Summary, cosine, psnr, ssim, summary

BACKBONE = "alexnet-owt-7be5be79.pth"


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise: near what a photograph is for SSIM."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = rng.uniform(0, 6, 3)
    waves = np.stack([np.sin(x / 9 + p) * np.cos(y / 7 - p) for p in phases], axis=2) * 90 + 128
    return np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def disturbed(a: np.ndarray, strength: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, a.shape)
    return np.clip(a + noise, 0, 255).astype(np.uint8)


def nchw(a: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(a).permute(2, 0, 1)[None].to(dtype)


PAIRS = [
    (picture(height, width, seed), disturbed(picture(height, width, seed), strength))
    for seed, (height, width) in enumerate([(64, 64), (48, 80), (11, 11), (33, 12)])
    for strength in (2, 20, 80)
]


# PSNR


@pytest.mark.parametrize("pair", PAIRS)
def test_psnr_agrees_with_scikit_image_and_torchmetrics(pair: tuple[np.ndarray, np.ndarray]):
    a, b = pair
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-4)
    oracle = PeakSignalNoiseRatio(data_range=255.0, dim=(1, 2, 3))
    assert psnr(a, b) == pytest.approx(oracle(nchw(b), nchw(a)).item(), abs=1e-4)


def test_psnr_of_known_differences():
    black, white = np.zeros((3, 5, 3), np.uint8), np.full((3, 5, 3), 255, np.uint8)
    assert psnr(black, white) == 0.0
    one_off = black.copy()
    one_off[1, 2, 0] = 1  # mean squared error 1 / 45
    assert psnr(black, one_off) == pytest.approx(20 * math.log10(255) + 10 * math.log10(45), abs=1e-9)


def test_psnr_takes_pillow_images():
    a, b = PAIRS[0]
    assert psnr(Image.fromarray(a), Image.fromarray(b)) == psnr(a, b)


def test_identical_pictures_have_no_psnr_and_a_perfect_ssim():
    a, _ = PAIRS[0]
    assert psnr(a, a.copy()) is None
    assert ssim(a, a.copy()) == pytest.approx(1.0, abs=1e-12)


# SSIM


def wang_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, eqs. 13 to 17, window by window in float64."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    w = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        x, y = (
            np.lib.stride_tricks.sliding_window_view(p[..., channel].astype(np.float64), (11, 11))
            for p in (a, b)
        )
        mean_x, mean_y = (x * w).sum((2, 3)), (y * w).sum((2, 3))
        var_x = (w * (x - mean_x[..., None, None]) ** 2).sum((2, 3))
        var_y = (w * (y - mean_y[..., None, None]) ** 2).sum((2, 3))
        cov = (w * (x - mean_x[..., None, None]) * (y - mean_y[..., None, None])).sum((2, 3))
        values.append(
            (2 * mean_x * mean_y + c1)
            * (2 * cov + c2)
            / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
        )
    return float(np.mean(values))


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_agrees_with_the_paper_scikit_image_and_torchmetrics(pair: tuple[np.ndarray, np.ndarray]):
    a, b = pair
    value = ssim(a, b)
    assert value == pytest.approx(wang_ssim(a, b), abs=1e-6)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert value == pytest.approx(
        structural_similarity(a, b, data_range=255, channel_axis=2, **settings), abs=1e-9
    )
    oracle = StructuralSimilarityIndexMeasure(
        gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True
    )
    _, full = oracle(nchw(b), nchw(a))
    # torchmetrics' own mean takes in windows over mirrored pixels, 5 along each border
    assert value == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), abs=1e-4)


@pytest.mark.parametrize("shape", [(10, 64), (64, 10), (1, 1)])
def test_pictures_smaller_than_the_window_have_no_ssim(shape: tuple[int, int]):
    assert ssim(picture(*shape), picture(*shape, seed=1)) is None


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (picture(16, 20), picture(20, 16), "20×16 and 16×20"),
        (picture(16, 16).astype(np.float32), picture(16, 16), "float32"),
        (picture(16, 16)[..., 0], picture(16, 16)[..., 0], r"\(16, 16\)"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (Image.new("RGBA", (16, 16)), Image.new("RGBA", (16, 16)), r"\(16, 16, 4\)"),
    ],
)
def test_what_is_no_pair_of_rgb_pictures_is_refused(metric, a, b, message: str):
    with pytest.raises(MetricError, match=message):
        metric(a, b)


# Cosine


def test_cosine_row_by_row():
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(7, 512)) for _ in range(2))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    values = cosine(a.astype(np.float32), b.astype(np.float32))
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_cosine_stays_within_its_range():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(200, 64)).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    assert cosine(a, a).max() <= 1.0
    assert cosine(a, -a).min() >= -1.0
    np.testing.assert_allclose(cosine(a, a), 1.0, atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((4,), (4,))])
def test_cosine_refuses_other_shapes(a: tuple[int, ...], b: tuple[int, ...]):
    with pytest.raises(MetricError, match="one shape"):
        cosine(np.zeros(a, np.float32), np.zeros(b, np.float32))


# LPIPS, with a random backbone where torch would keep the downloaded one


@pytest.fixture(scope="module")
def backbone() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return {
            key: value
            for key, value in torchvision.models.alexnet(weights=None).state_dict().items()
            if key.startswith("features.")
        }


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch's downloads, empty; opening a connection fails the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_connection(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    monkeypatch.setattr(socket, "getaddrinfo", no_connection)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def network(checkpoints: Path, backbone: dict[str, torch.Tensor]) -> Lpips:
    torch.save(backbone, checkpoints / BACKBONE)
    return Lpips()


def in_unit_range(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.cat([nchw(p, torch.float32) for p in pictures]) / 127.5 - 1


def test_lpips_equals_the_package_s_own_construction(
    network: Lpips, backbone: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    def alexnet(**_: object) -> torch.nn.Module:
        model = torchvision.models.AlexNet()
        model.load_state_dict(backbone, strict=False)
        return model

    monkeypatch.setattr(lpips.pretrained_networks.tv, "alexnet", alexnet)
    oracle = lpips.LPIPS(net="alex", verbose=False)  # as anybody would call it
    a = in_unit_range([picture(64, 48, seed) for seed in range(3)])
    b = in_unit_range([disturbed(picture(64, 48, seed), 10 * seed + 5) for seed in range(3)])
    values = network(a, b)
    with torch.no_grad():
        expected = oracle(a, b).flatten().tolist()
    assert values == pytest.approx(expected, abs=1e-6)
    assert min(expected) > 1e-4
    # in batches or one by one, in any order
    assert [network(x[None], y[None])[0] for x, y in zip(a, b, strict=True)] == pytest.approx(
        values, abs=1e-6
    )
    assert network(b, a) == pytest.approx(values, abs=1e-6)
    assert network(a, a) == pytest.approx([0.0, 0.0, 0.0], abs=1e-7)


def test_building_lpips_leaves_the_random_numbers_alone(
    checkpoints: Path, backbone: dict[str, torch.Tensor], recwarn: pytest.WarningsRecorder
):
    torch.save(backbone, checkpoints / BACKBONE)
    before = torch.get_rng_state()
    Lpips()
    assert torch.equal(torch.get_rng_state(), before)
    assert [str(w.message) for w in recwarn if "pretrained" in str(w.message)] == []


def test_lpips_takes_pictures_from_31_pixels_on(network: Lpips):
    a, b = torch.zeros((2, 3, 31, 40)), torch.ones((2, 3, 31, 40))
    assert all(value is not None and value > 0 for value in network(a, b))
    assert network(a[:, :, :30], b[:, :, :30]) == [None, None]
    assert network(a[:0], b[:0]) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 3, 40, 40), (1, 3, 40, 41)), ((3, 40, 40), (3, 40, 40)), ((1, 1, 40, 40), (1, 1, 40, 40))],
)
def test_lpips_refuses_other_shapes(network: Lpips, a: tuple[int, ...], b: tuple[int, ...]):
    with pytest.raises(MetricError, match="one shape"):
        network(torch.zeros(a), torch.zeros(b))


def test_lpips_without_its_backbone_says_what_to_put_where(checkpoints: Path):
    with pytest.raises(MetricError) as caught:
        Lpips()
    message = str(caught.value)
    assert BACKBONE in message
    assert str(checkpoints) in message
    assert "AlexNet" in message
    assert "v0.1" in message
    assert "\n" not in message


class NotWeights:
    """Something that only a pickle may hold."""


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", {}, {"features.0.weight": 3}, [1, 2], NotWeights()]
)
def test_lpips_refuses_a_file_that_is_not_alexnet(checkpoints: Path, content: object):
    path = checkpoints / BACKBONE
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(MetricError, match="not torchvision's AlexNet weights"):
        Lpips()


def test_lpips_refuses_weights_of_other_shapes(checkpoints: Path, backbone: dict[str, torch.Tensor]):
    torch.save(backbone | {"features.3.weight": torch.zeros(192, 64, 3, 3)}, checkpoints / BACKBONE)
    with pytest.raises(MetricError, match="not torchvision's AlexNet weights"):
        Lpips()


# Summaries


@given(st.lists(st.none() | st.floats(-1e3, 1e3)))
def test_summary(values: list[float | None]):
    defined = [value for value in values if value is not None]
    result = summary(values)
    assert result.count == len(defined)
    if not defined:
        assert result == Summary(mean=None, std=None, median=None, count=0)
    else:
        assert result.mean == pytest.approx(statistics.fmean(defined), abs=1e-9)
        assert result.std == pytest.approx(statistics.pstdev(defined), abs=1e-6)
        assert result.median == pytest.approx(statistics.median(defined), abs=1e-9)
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_identical_pictures_do_not_spoil_the_mean():
    a, b = PAIRS[0]
    value = psnr(a, b)
    assert summary([value, psnr(a, a), value]) == Summary(mean=value, std=0.0, median=value, count=2)


def test_values_lie_in_the_ranges_stated(network: Lpips):
    for a, b in [*PAIRS[:6], (np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8))]:
        results = {
            "psnr": psnr(a, b),
            "ssim": ssim(a, b),
            "lpips": network(in_unit_range([a]), in_unit_range([b]))[0],
        }
        for name, value in results.items():
            assert value is not None
            assert METRICS[name].low <= value <= (METRICS[name].high or math.inf)


def test_directions_are_those_stated(network: Lpips):
    a = picture(64, 64)
    near, far = disturbed(a, 5), disturbed(a, 60)
    for name, compute in {
        "psnr": psnr,
        "ssim": ssim,
        "lpips": lambda x, y: network(in_unit_range([x]), in_unit_range([y]))[0],
    }.items():
        better, worse = compute(a, near), compute(a, far)
        assert (better > worse) == (METRICS[name].better == "higher")


def test_importing_metrics_imports_no_heavy_package():
    code = (
        "import sys; import clip_feature_codec.evaluate.metrics; "
        "assert not {'torch', 'lpips', 'skimage', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
