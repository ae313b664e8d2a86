"""The judge sees what the timm model in its folder sees, and takes nothing from elsewhere."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from clip_feature_codec.errors import ModelError
from clip_feature_codec.evaluate.metrics.judge import CONFIG_FILE, WEIGHTS_FILE, Judge
from samples import make_picture

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 3,
    "model_args": {"num_classes": 3},
    "pretrained_cfg": {
        "num_classes": 3,
        "input_size": [3, 48, 48],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": MEAN,
        "std": STD,
        "first_conv": "conv1",
        "classifier": "fc",
    },
}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = timm.create_model("test_resnet", pretrained=False, num_classes=3)
        for name, buffer in network.named_buffers():  # what batch norm would change when it trains
            if buffer.is_floating_point():
                buffer.uniform_(0.1, 0.4) if name.endswith("var") else buffer.uniform_(-0.1, 0.1)
    return network.eval()


@pytest.fixture
def folder(tmp_path: Path, model: torch.nn.Module, no_connection: None) -> Path:
    """A folder of the form that timm exchanges with the hub."""
    save_file(model.state_dict(), tmp_path / WEIGHTS_FILE)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(CONFIG))
    return tmp_path


def pictures(count: int) -> list[Image.Image]:
    return [make_picture(seed, (40 + seed, 90 - seed)) for seed in range(count)]


def seen(model: torch.nn.Module, picture: Image.Image) -> np.ndarray:
    """The pooled features before the classifier, step by step."""
    small = np.asarray(picture.resize((48, 48), Image.Resampling.BICUBIC), np.float32) / 255
    x = torch.from_numpy((small - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return model.forward_features(x).mean((2, 3))[0].numpy()


def test_features_are_the_model_s_own(folder: Path, model: torch.nn.Module):
    judge = Judge.load(folder)
    features = judge(pictures(5))
    assert features.dtype == np.float32
    assert features.shape == (5, judge.dim)
    np.testing.assert_allclose(
        features, [seen(model, picture) for picture in pictures(5)], rtol=1e-4, atol=1e-5
    )
    assert np.ptp(np.linalg.norm(features, axis=1)) > 1e-3  # as they are, not scaled to one length


def test_a_picture_looks_the_same_in_any_company(folder: Path):
    judge = Judge.load(folder)
    together = judge(pictures(35))  # more than one batch
    np.testing.assert_allclose(together[33:], judge(pictures(35)[33:]), rtol=1e-4, atol=1e-5)


def test_no_pictures_have_no_features(folder: Path):
    judge = Judge.load(folder)
    assert judge([]).shape == (0, judge.dim)


def test_it_says_who_it_is(folder: Path):
    judge = Judge.load(folder)
    assert judge.name == "test_resnet"
    weights, config = (
        hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12] for name in (WEIGHTS_FILE, CONFIG_FILE)
    )
    assert judge.weights == f"model.safetensors (sha256 {weights}), config.json (sha256 {config})"


def test_a_model_without_a_classifier_will_do(folder: Path, model: torch.nn.Module):
    headless = {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}
    expected = Judge.load(folder)(pictures(2))
    save_file(headless, folder / WEIGHTS_FILE)
    config = CONFIG | {"num_classes": 0, "model_args": {"num_classes": 0}}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    np.testing.assert_array_equal(Judge.load(folder)(pictures(2)), expected)


def test_a_crop_is_taken_where_the_configuration_says_so(folder: Path, model: torch.nn.Module):
    described = CONFIG["pretrained_cfg"] | {"crop_mode": "center", "input_size": [3, 32, 32]}
    (folder / CONFIG_FILE).write_text(json.dumps(CONFIG | {"pretrained_cfg": described}))
    wide = make_picture(1, (96, 32))
    judge = Judge.load(folder)
    (whole,), (middle,) = judge([wide]), judge([wide.crop((32, 0, 64, 32))])
    np.testing.assert_allclose(whole, middle, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name) as caught:
        Judge.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was opened",)


def test_nothing_is_unpickled(folder: Path, model: torch.nn.Module):
    bomb = pickle.dumps(Bomb())
    for name in ("pytorch_model.bin", "model.pth"):
        (folder / name).write_bytes(bomb)
    Judge.load(folder)
    (folder / WEIGHTS_FILE).write_bytes(bomb)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Judge.load(folder)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=WEIGHTS_FILE):
        Judge.load(folder)


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps(CONFIG | {"architecture": "no_such_network"}).encode(),
        json.dumps(CONFIG | {"architecture": "test_vit"}).encode(),
        json.dumps(CONFIG | {"model_args": {"num_classes": 3, "global_pool": ""}}).encode(),
    ],
    ids=["empty", "list", "nothing", "unknown", "other", "unpooled"],
)
def test_a_configuration_of_something_else_is_refused_in_one_line(folder: Path, config: bytes):
    (folder / CONFIG_FILE).write_bytes(config)
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        Judge.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "shape", "nan", "cut"])
def test_weights_of_something_else_are_refused(folder: Path, change: str):
    path = folder / WEIGHTS_FILE
    weights = load_file(path)
    key = "conv1.0.weight" if "conv1.0.weight" in weights else "conv1.weight"
    if change == "missing":
        save_file({name: value for name, value in weights.items() if name != key}, path)
    elif change == "nan":
        save_file(weights | {key: weights[key] * torch.nan}, path)
    elif change == "shape":
        save_file(weights | {key: torch.zeros(2, 3, 3, 3)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Judge.load(folder)
