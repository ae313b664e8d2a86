"""What all embedders of pictures share: the vectors of pictures are those of a batch of what they become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed.protocol import Preprocess

if TYPE_CHECKING:
    import torch


class EmbedsPictures(ABC):
    """Most of an `Embedder`'s way from pictures to vectors.

    Attributes:
        space: the CLIP space its vectors lie in.
        preprocess: the model's own preprocessing of one RGB picture: PIL image -> float32 (3, S, S).
    """

    space: ClipSpace
    preprocess: Preprocess

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self.space.dim

    def embed_images(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB pictures of any sizes as one batch: float32 (N, D), unit length."""
        if not len(pictures):
            return self.no_vectors()
        return self.embed_batch(np.stack([self.preprocess(picture) for picture in pictures]))

    @abstractmethod
    def embed_batch(self, pixels: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        """Embed what `preprocess` made: float32 (N, 3, S, S), an array or a tensor -> float32 (N, D)."""

    def no_vectors(self) -> NDArray[np.float32]:
        """Those of nothing: float32 (0, D)."""
        return np.zeros((0, self.dim), np.float32)
