"""An image network with a glimpse: beside what it knows of a picture, the picture at eight by eight pixels.

A classifier's features say what is there and forget how it looks. What a vector is to say of looks had
better come from the pixels than through fifty layers that were made to forget it.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

SIDE = 8  # pixels of the glimpse


class WithGlimpse(nn.Module):
    """A network of timm's whose features have the picture itself behind them.

    Attributes:
        network: makes features (N, C) of pictures.
        num_features: C + 192.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.default_cfg = network.default_cfg
        self.num_features: int = network.num_features + 3 * SIDE**2

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """As all of timm's networks do."""
        self.network.reset_classifier(num_classes, global_pool=global_pool)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, S, S), S a multiple of 8 -> features (N, C + 192)."""
        return torch.cat([self.network(x), F.adaptive_avg_pool2d(x, SIDE).flatten(1)], dim=1)


@register_model  # type: ignore[untyped-decorator]
def mobilenetv2_glimpse(pretrained: bool = False, **options: Any) -> WithGlimpse:
    """MobileNetV2 (Sandler et al. 2018) with a glimpse; found by its name in open_clip's configurations."""
    del pretrained  # there are no such weights
    for name in [name for name in options if name.startswith(("pretrained", "cache"))]:
        del options[name]
    return WithGlimpse(timm.create_model("mobilenetv2_100", **options))
