"""`GraphEmbedder`: pictures and words to vectors, by the graphs beside a CLIP model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.bundle import IN_FOLDER, IN_PACK, find_clip
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed.onnx.preprocessing import Squash
from clip_feature_codec.embed.pictures import EmbedsPictures
from clip_feature_codec.embed.texts import list_texts
from clip_feature_codec.graphs import Graph, Graphs
from clip_feature_codec.lazy import lazy
from clip_feature_codec.names import IMAGE_GRAPH, TEXT_GRAPH

if TYPE_CHECKING:
    import torch

    from clip_feature_codec.embed.onnx.tokenizer import Tokenizer


class GraphEmbedder(EmbedsPictures):
    """A CLIP model's towers as ONNX graphs: an `Embedder`. Each is loaded at its first use.

    Args:
        graphs: with facts about the model, as the recipe of the pack writes them.
        model: how the model is found again: a pack's name, or an absolute path.
        pretrained: ``pack`` or ``folder``.

    Attributes:
        space: the CLIP space its vectors lie in.
        preprocess: the model's own preprocessing of one RGB picture: PIL image -> float32 (3, S, S).
        device: ``cpu``.
    """

    device = "cpu"

    def __init__(self, graphs: Graphs, model: str, pretrained: str) -> None:
        self._graphs = graphs
        self.space = ClipSpace.from_json(graphs.facts["space"] | {"model": model, "pretrained": pretrained})
        self.preprocess = Squash(self.space.preprocessing)

    @classmethod
    def find(cls, model: str, pretrained: str | None, device: str) -> GraphEmbedder | None:
        """Find a model's graphs; None where there are none, or `Graphs.find` has it that torch is used."""
        own = find_clip(model)
        if own is None or pretrained not in (None, IN_PACK, IN_FOLDER):
            return None
        graphs = Graphs.find(own.folder, device)
        return cls(graphs, own.model, own.pretrained) if graphs else None

    def embed_batch(self, pixels: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        """Embed what `preprocess` made: float32 (N, 3, S, S), an array or a tensor -> float32 (N, D)."""
        return _normalised(*self._image(np.asarray(pixels)))

    def embed_text(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 (N, D), unit length; one text by itself is one row, (1, D).

        Raises:
            ConfigError: something in the list is no text.
        """
        listed = list_texts(texts)
        if not listed:
            return self.no_vectors()
        return _normalised(*self._text(self._tokenizer(listed)))

    @lazy
    def _image(self) -> Graph:
        return self._graphs.open(IMAGE_GRAPH)

    @lazy
    def _text(self) -> Graph:
        return self._graphs.open(TEXT_GRAPH)

    @lazy
    def _tokenizer(self) -> Tokenizer:
        # What it mends texts with takes a while to import, and pictures need it not.
        from clip_feature_codec.embed.onnx.tokenizer import Tokenizer

        told = self._graphs.facts["tokenizer"]
        return Tokenizer(self._graphs.file(told["merges"]), told["context_length"])


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return unit
