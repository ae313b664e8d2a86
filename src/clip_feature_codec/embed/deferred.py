"""A CLIP model that is loaded when it is first asked to embed something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed.protocol import Embedder, Preprocess
from clip_feature_codec.lazy import lazy

if TYPE_CHECKING:
    import torch


class DeferredEmbedder:
    """An `Embedder` of a space that is known, for work that may turn out to need none.

    Args:
        space: the CLIP space.
        load: loads the model; whatever it raises is raised at the first use.
    """

    def __init__(self, space: ClipSpace, load: Callable[[], Embedder]) -> None:
        self.space = space
        self._load = load

    @lazy
    def _model(self) -> Embedder:
        return self._load()

    @property
    def dim(self) -> int:
        """The number D of components of a vector."""
        return self.space.dim

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._model.device

    @property
    def preprocess(self) -> Preprocess:
        """Its preprocessing."""
        return self._model.preprocess

    def embed_images(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """See `Embedder.embed_images`."""
        return self._model.embed_images(pictures)

    def embed_batch(self, pixels: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        """See `Embedder.embed_batch`."""
        return self._model.embed_batch(pixels)

    def embed_text(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed_text`."""
        return self._model.embed_text(texts)
