"""What image towers on torch share, whichever library has built them."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from clip_feature_codec.devices import autocast_dtype
from clip_feature_codec.embed.pictures import EmbedsPictures


class TorchTower(EmbedsPictures):
    """An image tower on a device; most of a `MeasuringEmbedder`."""

    _device: torch.device

    @property
    def device(self) -> str:
        """Where it runs: ``cpu``, ``cuda:0``, ``mps``."""
        return str(self._device)

    def embed_batch(self, pixels: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        """Embed what `preprocess` made: float32 (N, 3, S, S), an array or a tensor -> float32 (N, D)."""
        return self.embed_measured(pixels)[0]

    def embed_measured(
        self, pixels: NDArray[np.float32] | torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `MeasuringEmbedder`."""
        with torch.inference_mode():
            raw = self.image_embeds(torch.as_tensor(pixels).to(self._device, non_blocking=True))
            return F.normalize(raw, dim=-1).cpu().numpy(), raw.norm(dim=-1).cpu().numpy()

    @abstractmethod
    def image_embeds(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the tower gives for what `preprocess` made, before it is brought to unit length: (N, D)."""

    def _autocast(self) -> torch.autocast:
        # On a GPU only: there the vectors lose less than coding takes from them, and twice the speed is won.
        dtype = autocast_dtype(self._device) if self._device.type == "cuda" else None
        return torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None)
