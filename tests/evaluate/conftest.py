"""Backbones with random weights where torch keeps its downloads, and no way to download any."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

ALEXNET = "alexnet-owt-7be5be79.pth"
VGG16 = "vgg16-397923af.pth"


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a connection fails the test."""

    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_connection: None) -> Path:
    """The folder of torch's downloads, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def _torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from torch import nn
    from torchvision.models.alexnet import AlexNet
    from torchvision.models.vgg import cfgs, make_layers

    home = tmp_path_factory.mktemp("torch_home")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for name, layers in ((ALEXNET, AlexNet().features), (VGG16, make_layers(cfgs["D"]))):
            for layer in layers:
                if isinstance(layer, nn.Conv2d):  # torch's own start lets the signal fade away
                    nn.init.kaiming_normal_(layer.weight)
            weights = {f"features.{key}": value for key, value in layers.state_dict().items()}
            torch.save(weights, folder / name)
    return home


@pytest.fixture
def backbones(_torch_home: Path, monkeypatch: pytest.MonkeyPatch, no_connection: None) -> Path:
    """The folder of torch's downloads, with random weights of AlexNet and VGG16, to be left as it is."""
    monkeypatch.setenv("TORCH_HOME", str(_torch_home))
    return _torch_home / "hub" / "checkpoints"
