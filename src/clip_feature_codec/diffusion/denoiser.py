"""A network of torch's as `samplers.sample` calls it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class TorchDenoiser:
    """A network on the device of its parameters, without gradients: a `samplers.Denoiser`.

    Args:
        network: called as ``network(x_t, z, t)``, or ``network(x_t, z, t, layout)`` where there are layouts,
            with timesteps (N,) int64.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._device = next(network.parameters(), torch.empty(0)).device

    def array(self, values: NDArray[np.float32] | Tensor) -> Tensor:
        """Numbers as float32 on the network's device."""
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)

    @torch.no_grad()
    def __call__(self, x: Tensor, z: Tensor, t: int, layout: Tensor | None) -> Tensor:
        """The network's output, float32 in the shape of x."""
        times = torch.full((len(x),), t, device=self._device)
        output: Tensor = self._network(x, z, times, *([] if layout is None else [layout]))
        return output.float()
