"""What a CLIP model is to the rest of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec.space import ClipSpace

# Not every implementation runs on torch.
if TYPE_CHECKING:
    import torch


class Preprocess(Protocol):
    """A model's own preprocessing of one picture; travels to worker processes."""

    def __call__(self, picture: Image.Image) -> NDArray[np.float32]:
        """Turn an RGB picture of any size into float32 (3, S, S)."""
        ...


class Embedder(Protocol):
    """A CLIP model with its weights, ready to embed; made by `load_embedder` or `embedder_for`."""

    @property
    def space(self) -> ClipSpace:
        """The CLIP space that its vectors lie in."""
        ...

    @property
    def dim(self) -> int:
        """The number D of components of a vector."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, in torch's words: ``cpu``, ``cuda:0``, ``mps``."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """Its preprocessing, the first half of `embed_images`."""
        ...

    def embed_images(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB pictures of any sizes as one batch: float32 (N, D), unit length."""
        ...

    def embed_batch(self, pixels: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        """Embed what `preprocess` made: float32 (N, 3, S, S), an array or a tensor -> float32 (N, D)."""
        ...

    def embed_text(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 (N, D), unit length; one text by itself is one row, (1, D).

        Raises:
            ModelError: the model has no tokenizer, or it cannot be had without a connection.
            ConfigError: something in the list is no text.
        """
        ...


@runtime_checkable
class MeasuringEmbedder(Embedder, Protocol):
    """An embedder that can tell how long its vectors were before they were brought to unit length."""

    def embed_measured(
        self, pixels: NDArray[np.float32] | torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed as `embed_batch` does; with the vectors (N, D), their lengths: float32 (N,)."""
        ...


def measured(
    embedder: Embedder, pixels: NDArray[np.float32] | torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Vectors and their lengths (see `MeasuringEmbedder`); None from an embedder that does not know them."""
    if isinstance(embedder, MeasuringEmbedder):
        return embedder.embed_measured(pixels)
    return embedder.embed_batch(pixels), None


@runtime_checkable
class DifferentiableEmbedder(Embedder, Protocol):
    """An embedder on torch, whose image tower can be learned through."""

    def encode_tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Embed decoder output, differentiably: (N, 3, H, W) in [-1, 1] -> float32 (N, D), unit length."""
        ...
