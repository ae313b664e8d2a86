"""The eyes that the upsampler learns by: what the teacher sees, level by level."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from teacher import fold_norms


class Eyes(nn.Module):
    """What the teacher sees of a picture; its weights stay as they are.

    Args:
        network: the teacher, see `teacher.read_teacher`; takes pictures (N, 3, S, S) in [-1, 1].
        pictures: (M, 3, S, S), over which each channel of each level shall have mean 0 and variance 1.
    """

    levels = (1, 2, 4, 6)  # its blocks that are looked at: a 4th, 8th, 16th and 32nd of the picture's side

    def __init__(self, network: Any, pictures: Tensor) -> None:
        super().__init__()
        self.network: Any = network
        fold_norms(self.network)
        self.network.requires_grad_(False).to(memory_format=torch.channels_last)
        self._spread: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            found = [*self(pictures)[0]]
        self._spread = [
            (level.mean((0, 2, 3), keepdim=True), level.std((0, 2, 3), keepdim=True) + 1e-3)
            for level in found
        ]

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Look at pictures.

        Args:
            x: (N, 3, S, S) in [-1, 1].

        Returns:
            Features (N, C, H, W) of each level, those of a fourth and an eighth of the side fine, the others
            coarse, and last those that the classifier is given, (N, C, 1, 1); its logits (N, 1000).
        """
        network = self.network
        features: list[Tensor] = []
        x = network.bn1(network.conv_stem(x.contiguous(memory_format=torch.channels_last)))
        for number, block in enumerate(network.blocks):
            x = block(x)
            if number in self.levels:
                features.append(x)
        pooled = network.forward_head(network.bn2(network.conv_head(x)), pre_logits=True)
        features.append(pooled[:, :, None, None])
        logits: Tensor = network.classifier(pooled)
        if self._spread:
            features = [(x - mean) / std for x, (mean, std) in zip(features, self._spread, strict=True)]
        return features, logits
