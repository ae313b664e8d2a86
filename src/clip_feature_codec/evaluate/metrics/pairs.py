"""All metrics of a pair, for many pictures at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from clip_feature_codec.errors import MetricError, MissingExtraError
from clip_feature_codec.evaluate.metrics.definitions import METRICS, Metric
from clip_feature_codec.evaluate.metrics.networks import Dists, Lpips, NetworkDistance
from clip_feature_codec.evaluate.metrics.structure import structural_similarities

PIXELS_AT_ONCE = 2**19
"""Pixels of a batch, 8 pictures of 256 × 256: DISTS needs some 2 kB for each."""


class PairMetrics:
    """PSNR, SSIM, MS-SSIM, and LPIPS and DISTS where their weights are: made by `load`.

    Attributes:
        metrics: those that can be computed here, by name.
        unavailable: the others, with the reason.
    """

    def __init__(
        self, device: str | torch.device, networks: Sequence[NetworkDistance], unavailable: dict[str, str]
    ) -> None:
        self.metrics: dict[str, Metric] = {name: METRICS[name] for name in ("psnr", "ssim", "ms_ssim")}
        self.metrics |= {network.name: network.metric for network in networks}
        self.unavailable = unavailable
        self._device = device
        self._networks = networks

    @classmethod
    def load(cls, device: str | torch.device = "cpu") -> PairMetrics:
        """Load what can be loaded; what cannot is listed in ``unavailable``."""
        networks: list[NetworkDistance] = []
        unavailable = {}
        for kind in (Lpips, Dists):
            try:
                networks.append(kind(device))
            except (MetricError, MissingExtraError) as error:
                unavailable[kind.name] = str(error)
        return cls(device, networks, unavailable)

    def __call__(
        self, originals: Sequence[Image.Image], others: Sequence[Image.Image]
    ) -> list[dict[str, float | None]]:
        """Measure each picture of ``others`` against the same one of ``originals``.

        Args:
            originals: RGB pictures of any sizes.
            others: as many, each of the size of its original.

        Returns:
            For each pair the value of each of ``metrics``; None where it is undefined.

        Raises:
            MetricError: a picture is not RGB, or has not the size of its original, or one has no partner.
        """
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        if len(originals) != len(others):
            raise MetricError(f"expected pairs of pictures, found {len(originals)} and {len(others)}")
        for index, (original, other) in enumerate(zip(originals, others, strict=True)):
            if (original.mode, original.size) != (other.mode, other.size) or original.mode != "RGB":
                kinds = " and ".join(f"{p.mode} {p.width}×{p.height}" for p in (original, other))
                raise MetricError(f"expected two RGB pictures of one size, found {kinds}")
            by_size[original.size].append(index)
        results: list[dict[str, float | None]] = [{} for _ in originals]
        for (width, height), indices in by_size.items():
            step = max(1, PIXELS_AT_ONCE // (width * height))
            for start in range(0, len(indices), step):
                batch = indices[start : start + step]
                columns = self._measure(*(self._stack([p[i] for i in batch]) for p in (originals, others)))
                for name, values in columns.items():
                    for index, value in zip(batch, values, strict=True):
                        results[index][name] = value
        return results

    def _stack(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """uint8 (N, 3, H, W) on the device."""
        stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        return stacked.to(self._device).permute(0, 3, 1, 2)

    def _measure(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, list[float | None]]:
        """Every metric of N pairs, from pictures uint8 (N, 3, H, W) of one size."""
        ssim, ms_ssim = structural_similarities(a, b)
        columns = {"psnr": _psnr(a, b), "ssim": ssim, "ms_ssim": ms_ssim}
        if self._networks:
            x, y = (t.to(torch.float32) / 127.5 - 1 for t in (a, b))
            columns |= {network.name: network(x, y) for network in self._networks}
        return columns


def _psnr(a: torch.Tensor, b: torch.Tensor) -> list[float | None]:
    """`pixels.psnr` of each pair of uint8 (N, 3, H, W).

    In whole numbers up to the last step, so that every device agrees.
    """
    squares = (a.to(torch.int32) - b.to(torch.int32)).square().sum((1, 2, 3), dtype=torch.int64).tolist()
    values = a[0].numel()
    return [10 * math.log10(255**2 * values / total) if total else None for total in squares]
