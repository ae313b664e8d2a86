"""Distances that networks see, LPIPS and DISTS, with weights from this machine alone."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch

from clip_feature_codec.errors import MetricError
from clip_feature_codec.evaluate.metrics.definitions import LPIPS_SHORTEST_SIDE, METRICS
from clip_feature_codec.extras import extra
from clip_feature_codec.files import file_sha256

_LAYER = re.compile(r"(?:slice|stage)\d\.(\d+\.(?:weight|bias))$")
"""Both packages name the backbone's layers by a part of theirs and torchvision's number: slice2.3.bias."""


class NetworkDistance(ABC):
    """A distance computed by a network of torchvision's with a little on top, built once, on one device.

    The network's weights are read from where torch keeps its downloads; those on top come with the package
    that defines the distance. Nothing is ever downloaded here.

    Attributes:
        metric: what the values mean, with network and weights.
    """

    name: ClassVar[str]
    backbone: ClassVar[str]
    file: ClassVar[str]
    package: ClassVar[str]
    shortest_side: ClassVar[int] = 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        """Build the network.

        Raises:
            MetricError: the backbone's weights are not on this machine, or are something else.
            MissingExtraError: the package that defines the distance is not installed.
        """
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.file
        title = METRICS[self.name].title
        if not path.is_file():
            raise MetricError(
                f"{title} needs the weights of {self.backbone} (torchvision's IMAGENET1K_V1): "
                f"put the file {path.name} into {path.parent}"
            )
        # Building one draws weights, all of them replaced below.
        with torch.random.fork_rng(devices=[]), extra("eval", title):
            network = self._untrained()
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            names = ((key, _LAYER.search(key)) for key in network.state_dict())
            found = {key: weights[f"features.{layer[1]}"] for key, layer in names if layer}
            network.load_state_dict(network.state_dict() | found, assign=True)
        except Exception as error:  # a foreign or damaged file makes torch.load raise nearly anything
            raise MetricError(
                f"{path}: not torchvision's {self.backbone} weights: put the right file there"
            ) from error
        self.device = device
        self._network = network.to(device).eval()
        self.metric = replace(
            METRICS[self.name],
            network=f"{self.backbone}, {title} of {self.package} {version(self.package)}",
            weights=file_label(path),
        )

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> list[float | None]:
        """Compute the distance of each picture of ``a`` from the same one of ``b``.

        Args:
            a: float (N, 3, H, W) in [-1, 1], on any device.
            b: the same shape.

        Returns:
            N distances; None when the shorter side is below ``shortest_side``.

        Raises:
            MetricError: the shapes differ, or are not (N, 3, H, W).
        """
        if a.ndim != 4 or a.shape[1] != 3 or a.shape != b.shape:
            found = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise MetricError(
                f"{self.metric.title} needs two tensors of one shape (N, 3, H, W), found {found}"
            )
        if len(a) == 0 or min(a.shape[2:]) < self.shortest_side:
            return [None] * len(a)
        with torch.inference_mode(), full_precision():
            first, second = (x.to(self.device, torch.float32) for x in (a, b))
            distances: list[float | None] = self._distances(first, second).flatten().tolist()
        return distances

    @abstractmethod
    def _untrained(self) -> Any:
        """Build the network, all but the backbone's weights, without a connection."""

    @abstractmethod
    def _distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The network's N distances between pictures (N, 3, H, W) in [-1, 1]."""


class Lpips(NetworkDistance):
    """LPIPS v0.1 with the AlexNet backbone (Zhang et al. 2018, eq. 1)."""

    name, backbone, file, package = "lpips", "AlexNet", "alexnet-owt-7be5be79.pth", "lpips"
    shortest_side = LPIPS_SHORTEST_SIDE

    def _untrained(self) -> Any:
        import lpips

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what lpips passes to torchvision and to torch.load
            return lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)

    def _distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        distances: torch.Tensor = self._network(a, b)
        return distances


class Dists(NetworkDistance):
    """DISTS with the VGG16 backbone (Ding et al. 2020, section 3), at the size that pictures have.

    The authors' program first shrinks larger pictures to a shorter side of 256 pixels; torchmetrics, whose
    network this is, leaves that to the caller, and so does this.
    """

    name, backbone, file, package = "dists", "VGG16", "vgg16-397923af.pth", "torchmetrics"

    def _untrained(self) -> Any:
        from torchmetrics.functional.image import dists

        with _empty_vgg16(dists):
            network = dists.DISTSNetwork(load_weights=False)
        on_top = Path(dists.__file__).parent / "dists_models" / "weights.pt"
        network.load_state_dict(torch.load(on_top, map_location="cpu", weights_only=True), strict=False)
        return network

    def _distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        distances: torch.Tensor = self._network((a + 1) / 2, (b + 1) / 2)
        return distances


@contextmanager
def _empty_vgg16(dists: Any) -> Iterator[None]:
    """Keep torchmetrics from downloading VGG16, which it has no option for: it gets one without weights."""
    original = dists.vgg16

    def empty(**_: object) -> Any:
        with torch.device("meta"):  # no memory and no time for half a gigabyte that nobody reads
            return original(weights=None)

    dists.vgg16 = empty
    try:
        yield
    finally:
        dists.vgg16 = original


@contextmanager
def full_precision() -> Iterator[None]:
    """Have convolutions on NVIDIA GPUs keep all digits of float32 (TF32, torch's default, keeps 10 bits)."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def file_label(path: Path) -> str:
    """Name a file of weights by its name and the first 12 digits of its SHA-256."""
    return f"{path.name} (sha256 {file_sha256(path)[:12]})"
