"""The judge: an image network from a local folder, whose features say how alike pictures are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import ModelError
from clip_feature_codec.evaluate.metrics.networks import file_label, full_precision

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_BATCH_SIZE = 32


class Judge:
    """An image network that did not take part in coding, ready to look at pictures: made by `load`.

    Attributes:
        name: its architecture, as timm calls it.
        weights: name and SHA-256 (its beginning) of its file of weights and of its configuration.
        dim: the number of features of a picture.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        prepare: Callable[[Image.Image], torch.Tensor],
        name: str,
        weights: str,
        device: str | torch.device,
    ) -> None:
        self.name = name
        self.weights = weights
        self._device = device
        self._network = network.to(device).eval()
        self._prepare = prepare
        features = self([Image.new("RGB", (64, 64))])
        if features.ndim != 2 or not np.isfinite(features).all():
            raise ModelError(f"{name} does not give a vector of finite numbers for a picture")
        self.dim = features.shape[1]

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> Judge:
        """Load a network of timm's from a folder of the form that timm exchanges with the hub.

        Args:
            folder: holds ``config.json`` and ``model.safetensors``. Nothing is downloaded or unpickled.
            device: where it runs.

        Raises:
            ModelError: a file is missing or damaged, or it is not a network that gives features.
        """
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ModelError(
                    f"judge {folder}: there is no {name}: name a folder with a timm model's {CONFIG_FILE} "
                    f"and {WEIGHTS_FILE}"
                )
        import timm

        try:
            network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
            network.reset_classifier(0)  # only now: timm will not load a head's weights into no head
            prepare = timm.data.create_transform(
                **timm.data.resolve_model_data_config(network), is_training=False
            )
            label = f"{file_label(folder / WEIGHTS_FILE)}, {file_label(folder / CONFIG_FILE)}"
            return cls(network, prepare, network.pretrained_cfg["architecture"], label, device)
        except Exception as error:  # over a bad folder, timm and safetensors raise nearly anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"judge {folder} cannot be loaded: {reason}") from error

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Look at RGB pictures of any sizes, each prepared as the network's configuration says.

        Returns:
            float32 (N, D), pooled features before the classifier, not scaled to unit length.
        """
        if not pictures:
            return np.zeros((0, self.dim), np.float32)
        batches = []
        with torch.inference_mode(), full_precision():
            for start in range(0, len(pictures), _BATCH_SIZE):
                batch = [self._prepare(picture) for picture in pictures[start : start + _BATCH_SIZE]]
                batches.append(self._network(torch.stack(batch).to(self._device)).float().cpu())
        features: NDArray[np.float32] = torch.cat(batches).numpy()
        return features
