"""How near a decoded picture is to its original: PSNR, SSIM, LPIPS and CLIP similarity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import MetricError

if TYPE_CHECKING:
    import torch

Picture = Image.Image | NDArray[np.uint8]
"""An RGB picture: Pillow's, or uint8 (H, W, 3)."""

SSIM_SHORTEST_SIDE = 11
"""Pixels of SSIM's window: 3.5 standard deviations of 1.5 pixels to each side, and the middle one."""

LPIPS_SHORTEST_SIDE = 31
"""The fewest pixels from which AlexNet's second pooling still makes one."""


@dataclass(frozen=True)
class Metric:
    """What a metric's numbers mean.

    Attributes:
        title: as written in reports, with the unit.
        low: the least value there can be.
        high: the greatest; None when there is no bound.
        better: whether higher or lower values are better.
        digits: after the decimal point, in tables.
        undefined: when there is no value (None) although the metric works; empty when there always is one.
    """

    title: str
    low: float
    high: float | None
    better: Literal["higher", "lower"]
    digits: int
    undefined: str = ""


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR (dB)", 0.0, None, "higher", 2, "the pictures are identical"),
    "ssim": Metric("SSIM", -1.0, 1.0, "higher", 4, f"a side is below {SSIM_SHORTEST_SIDE} pixels"),
    "lpips": Metric("LPIPS", 0.0, None, "lower", 4, f"a side is below {LPIPS_SHORTEST_SIDE} pixels"),
    "clip_similarity": Metric("CLIP similarity", -1.0, 1.0, "higher", 4),
}
"""Every metric by its name in results."""


@dataclass(frozen=True)
class Summary:
    """Of many values; None where there are none.

    Attributes:
        mean: arithmetic mean.
        std: standard deviation of the population (divided by ``count``).
        median: half of the values lie on either side.
        count: how many values there were, those that are None left out.
    """

    mean: float | None
    std: float | None
    median: float | None
    count: int


def summary(values: Iterable[float | None]) -> Summary:
    """Sum up one metric over many pictures, leaving out those for which it is undefined (None)."""
    defined = np.array([value for value in values if value is not None], dtype=np.float64)
    if defined.size == 0:
        return Summary(None, None, None, 0)
    return Summary(float(defined.mean()), float(defined.std()), float(np.median(defined)), defined.size)


def psnr(a: Picture, b: Picture) -> float | None:
    """Peak signal-to-noise ratio: 10 log10(255² / MSE) in dB, MSE the mean over all pixels and channels.

    None for identical pictures: their ratio is infinite, which JSON cannot hold and no mean survives.
    Equals scikit-image's ``peak_signal_noise_ratio`` and, picture by picture (``dim=(1, 2, 3)``),
    torchmetrics' ``PeakSignalNoiseRatio``, both with a data range of 255.

    Raises:
        MetricError: these are not two RGB pictures of one size.
    """
    first, second = _pair(a, b)
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return None if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def ssim(a: Picture, b: Picture) -> float | None:
    """Structural similarity (Wang et al. 2004, eq. 13), averaged over positions and channels (eq. 17).

    Gaussian window of 11 × 11 pixels, sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, L = 255, and
    only the positions at which the window lies within the picture: with these settings scikit-image's
    ``structural_similarity`` is computed. torchmetrics agrees once the 5 pixels along each border are cut
    off its ``return_full_image`` map; its plain mean includes windows over mirrored pixels.

    None when the shorter side is below `SSIM_SHORTEST_SIDE`.

    Raises:
        MetricError: these are not two RGB pictures of one size.
    """
    first, second = _pair(a, b)
    if min(first.shape[:2]) < SSIM_SHORTEST_SIDE:
        return None
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            first,
            second,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each row of ``a`` with the same row of ``b``: their CLIP similarity.

    Args:
        a: unit vectors (N, D).
        b: unit vectors (N, D).

    Returns:
        float64 (N,) in [-1, 1].

    Raises:
        MetricError: the shapes differ, or are not (N, D).
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise MetricError(f"cosine needs two arrays of one shape (N, D), found {a.shape} and {b.shape}")
    products = np.einsum("nd,nd->n", a.astype(np.float64), b.astype(np.float64))
    clipped: NDArray[np.float64] = np.clip(products, -1.0, 1.0)  # rounding may lead just outside
    return clipped


class Lpips:
    """LPIPS v0.1 with the AlexNet backbone (Zhang et al. 2018, eq. 1), built once, on one device.

    The linear layers come with the ``lpips`` package; the backbone's weights are torchvision's, read from
    where torch keeps its downloads. Nothing is ever downloaded here.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        """Build the network.

        Raises:
            MetricError: the backbone's weights are not on this machine, or are not AlexNet's.
        """
        self.device = device
        self._network = _lpips_network(_backbone_path()).to(device)

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> list[float | None]:
        """Compute the distance of each picture of ``a`` from the same one of ``b``.

        Args:
            a: float (N, 3, H, W) in [-1, 1], on any device.
            b: the same shape.

        Returns:
            N distances; None when the shorter side is below `LPIPS_SHORTEST_SIDE`.

        Raises:
            MetricError: the shapes differ, or are not (N, 3, H, W).
        """
        import torch

        if a.ndim != 4 or a.shape[1] != 3 or a.shape != b.shape:
            found = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise MetricError(f"LPIPS needs two tensors of one shape (N, 3, H, W), found {found}")
        if len(a) == 0 or min(a.shape[2:]) < LPIPS_SHORTEST_SIDE:
            return [None] * len(a)
        with torch.inference_mode():
            first, second = (x.to(self.device, torch.float32) for x in (a, b))
            distances: list[float | None] = self._network(first, second).flatten().tolist()
        return distances


def _pair(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = np.asarray(a), np.asarray(b)
    for array in (first, second):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise MetricError(f"expected an RGB picture, uint8 (H, W, 3), found {array.dtype} {array.shape}")
    if first.shape != second.shape:
        raise MetricError(f"expected pictures of one size, found {_size(first)} and {_size(second)}")
    return first, second


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def _backbone_path() -> Path:
    """Where torchvision's AlexNet weights are kept on this machine, if they are."""
    import torch
    from torchvision.models import AlexNet_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name


def _lpips_network(backbone: Path) -> Any:
    """Build LPIPS with all its weights from local files.

    ``lpips.LPIPS(net="alex")`` would download the backbone, so it is built with a random one whose weights
    are then all replaced; its linear layers are files of the ``lpips`` package.
    """
    import torch

    if not backbone.is_file():
        raise MetricError(
            f"LPIPS needs the weights of AlexNet (LPIPS v0.1, torchvision's IMAGENET1K_V1): put the file "
            f"{backbone.name} into {backbone.parent}"
        )
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # about what lpips passes to torchvision and to torch.load
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    try:
        features = torch.load(backbone, map_location="cpu", weights_only=True)
        # lpips puts the name of its slice before torchvision's number: slice2.3.bias is features.3.bias
        weights = {key: features["features." + key.partition(".")[2]] for key in network.net.state_dict()}
        network.net.load_state_dict(weights)
    except Exception as error:  # a foreign or damaged file makes torch.load raise nearly anything
        raise MetricError(
            f"{backbone}: not torchvision's AlexNet weights: put the right file there"
        ) from error
    return network
