"""LPIPS and DISTS equal the constructions of the packages they come from, and never download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import lpips
import numpy as np
import pytest
import torch
import torchvision
from pictures import disturbed, nchw, picture
from torchmetrics.functional.image import dists
from torchvision.models.vgg import cfgs, make_layers

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.networks import Dists, Lpips, NetworkDistance

ALEXNET = "alexnet-owt-7be5be79.pth"
VGG16 = "vgg16-397923af.pth"
KINDS = [(Lpips, ALEXNET, "AlexNet"), (Dists, VGG16, "VGG16")]


def in_unit_range(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.cat([nchw(p, torch.float32) for p in pictures]) / 127.5 - 1


ORIGINALS = [picture(64, 48, seed) for seed in range(3)]
DECODED = [disturbed(original, 10 * seed + 15) for seed, original in enumerate(ORIGINALS)]
A, B = in_unit_range(ORIGINALS), in_unit_range(DECODED)


def lpips_oracle(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    def alexnet(**_: object) -> torch.nn.Module:
        model = torchvision.models.AlexNet()
        model.load_state_dict(torch.load(checkpoints / ALEXNET, weights_only=True), strict=False)
        return model

    monkeypatch.setattr(lpips.pretrained_networks.tv, "alexnet", alexnet)
    network = lpips.LPIPS(net="alex", verbose=False)  # as anybody would call it
    with torch.no_grad():
        return network(A, B).flatten().tolist()


def dists_oracle(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    def vgg16(**_: object) -> SimpleNamespace:
        features = make_layers(cfgs["D"])
        weights = torch.load(checkpoints / VGG16, weights_only=True)
        features.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
        return SimpleNamespace(features=features)

    monkeypatch.setattr(dists, "vgg16", vgg16)
    unit = [torch.cat([nchw(p, torch.float32) for p in x]) / 255 for x in (ORIGINALS, DECODED)]
    return dists.deep_image_structure_and_texture_similarity(*unit).tolist()


@pytest.mark.parametrize(("kind", "oracle"), [(Lpips, lpips_oracle), (Dists, dists_oracle)])
def test_distances_equal_the_package_s_own(
    backbones: Path, monkeypatch: pytest.MonkeyPatch, kind: type[NetworkDistance], oracle
):
    network = kind()
    values = network(A, B)
    expected = oracle(backbones, monkeypatch)
    assert values == pytest.approx(expected, abs=1e-5)
    assert min(expected) > 1e-3
    one_by_one = [network(x[None], y[None])[0] for x, y in zip(A, B, strict=True)]
    assert one_by_one == pytest.approx(values, abs=1e-5)
    assert network(B, A) == pytest.approx(values, abs=1e-5)
    assert network(A, A) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_more_noise_is_farther_and_values_lie_in_the_range(backbones: Path):
    far = in_unit_range([disturbed(original, 80) for original in ORIGINALS])
    for kind in (Lpips, Dists):
        network = kind()
        for near, wide in zip(network(A[:1], B[:1]), network(A[:1], far[:1]), strict=True):
            assert network.metric.low <= near < wide <= (network.metric.high or np.inf)
        assert network.metric.better == "lower"


@pytest.mark.parametrize(("kind", "file", "backbone"), KINDS)
def test_the_metric_names_network_and_weights(
    backbones: Path, kind: type[NetworkDistance], file: str, backbone: str
):
    metric = kind().metric
    assert backbone in metric.network
    digest = hashlib.sha256((backbones / file).read_bytes()).hexdigest()
    assert file in metric.weights
    assert digest[:12] in metric.weights


@pytest.mark.parametrize("kind", [Lpips, Dists])
def test_building_leaves_random_numbers_and_packages_alone(
    backbones: Path, kind: type[NetworkDistance], recwarn: pytest.WarningsRecorder
):
    before, vgg16 = torch.get_rng_state(), dists.vgg16
    kind()
    assert torch.equal(torch.get_rng_state(), before)
    assert dists.vgg16 is vgg16
    assert [str(w.message) for w in recwarn if "pretrained" in str(w.message)] == []


def test_tf32_is_as_it_was(backbones: Path):
    before = torch.backends.cudnn.allow_tf32
    Lpips()(A, B)
    assert torch.backends.cudnn.allow_tf32 == before


def test_lpips_takes_pictures_from_31_pixels_on(backbones: Path):
    network = Lpips()
    a, b = torch.zeros((2, 3, 31, 40)), torch.ones((2, 3, 31, 40))
    assert all(value is not None and value > 0 for value in network(a, b))
    assert network(a[:, :, :30], b[:, :, :30]) == [None, None]
    assert network(a[:0], b[:0]) == []


def test_dists_takes_pictures_of_any_size(backbones: Path):
    (value,) = Dists()(torch.zeros((1, 3, 1, 2)), torch.ones((1, 3, 1, 2)))
    assert value is not None
    assert 0 < value < 2


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 3, 40, 40), (1, 3, 40, 41)), ((3, 40, 40), (3, 40, 40)), ((1, 1, 40, 40), (1, 1, 40, 40))],
)
def test_other_shapes_are_refused(backbones: Path, a: tuple[int, ...], b: tuple[int, ...]):
    with pytest.raises(MetricError, match="one shape"):
        Lpips()(torch.zeros(a), torch.zeros(b))


@pytest.mark.parametrize(("kind", "file", "backbone"), KINDS)
def test_without_its_backbone_it_says_what_to_put_where(
    checkpoints: Path, kind: type[NetworkDistance], file: str, backbone: str
):
    with pytest.raises(MetricError) as caught:
        kind()
    message = str(caught.value)
    assert file in message
    assert str(checkpoints) in message
    assert backbone in message
    assert "\n" not in message


class NotWeights:
    """Something that only a pickle may hold."""


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>", {}, {"features.0.weight": 3}, [1, 2], NotWeights()],
    ids=["empty", "page", "nothing", "number", "list", "object"],
)
@pytest.mark.parametrize(("kind", "file", "backbone"), KINDS)
def test_a_file_that_is_something_else_is_refused(
    checkpoints: Path, kind: type[NetworkDistance], file: str, backbone: str, content: object
):
    if isinstance(content, bytes):
        (checkpoints / file).write_bytes(content)
    else:
        torch.save(content, checkpoints / file)
    with pytest.raises(MetricError, match=f"not torchvision's {backbone} weights"):
        kind()


@pytest.mark.parametrize(("kind", "file", "backbone"), KINDS)
def test_weights_of_other_shapes_are_refused(
    backbones: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind, file: str, backbone: str
):
    weights = torch.load(backbones / file, weights_only=True)
    other = tmp_path / "hub" / "checkpoints" / file
    other.parent.mkdir(parents=True)
    torch.save(weights | {"features.0.weight": torch.zeros(64, 3, 2, 2)}, other)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MetricError, match=f"not torchvision's {backbone} weights"):
        kind()
