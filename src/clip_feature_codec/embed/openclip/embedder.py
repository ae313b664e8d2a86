"""`ClipEmbedder`: pictures and words to vectors, by a model of open_clip's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.devices import pick_device
from clip_feature_codec.embed.openclip.network import Tokenizer, build, load_tokenizer, space_of
from clip_feature_codec.embed.openclip.preprocessing import OpenClipPreprocess, input_size
from clip_feature_codec.embed.openclip.source import ModelSource, find_model
from clip_feature_codec.embed.texts import list_texts
from clip_feature_codec.embed.torch_tower import TorchTower
from clip_feature_codec.errors import CodecError, ModelError
from clip_feature_codec.lazy import lazy
from clip_feature_codec.packs import DEFAULT_PACK


class ClipEmbedder(TorchTower):
    """A CLIP model of open_clip's form with weights, ready to embed: a `DifferentiableEmbedder`.

    Attributes:
        space: the CLIP space its vectors lie in.
        preprocess: the model's own preprocessing of one RGB picture: PIL image -> float32 (3, S, S).
    """

    def __init__(
        self, model: torch.nn.Module, space: ClipSpace, source: ModelSource, device: torch.device
    ) -> None:
        self.space = space
        self.preprocess = OpenClipPreprocess(space.preprocessing)
        self._device = device
        self._model: Any = model.to(device)
        self._source = source

    @classmethod
    def load(
        cls, model: str = DEFAULT_PACK, pretrained: str | None = None, device: str = "auto"
    ) -> ClipEmbedder:
        """Load a CLIP model and its weights (see `embed.factory.load_embedder`)."""
        target = pick_device(device)
        try:
            source = find_model(model, pretrained)
            network = build(source)
            return cls(network, space_of(source, network), source, target)
        except CodecError:
            raise
        except Exception as error:  # over bad files, torch and open_clip raise nearly anything
            raise ModelError(f"CLIP model {model!r} cannot be loaded: {_one_line(error)}") from error

    def encode_tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Embed decoder output, differentiably: (N, 3, H, W) in [-1, 1] -> float32 (N, D), unit length.

        The canvas is resized to the model's square input, as its preprocessing does with a square picture.
        """
        config = self.space.preprocessing
        x = F.interpolate(
            x.float(),
            size=input_size(config),
            mode="bilinear" if config["interpolation"] == "bilinear" else "bicubic",  # as open_clip chooses
            antialias=True,
            align_corners=False,
        )
        mean, std = (torch.tensor(config[key], device=x.device).view(3, 1, 1) for key in ("mean", "std"))
        return self._encode(((x + 1) / 2 - mean) / std)

    def embed_text(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 (N, D), unit length; one text by itself is one row, (1, D).

        Raises:
            ModelError: the model's tokenizer cannot be had without a connection.
            ConfigError: something in the list is no text.
        """
        listed = list_texts(texts)
        if not listed:
            return self.no_vectors()
        tokens = self._tokenizer(listed)
        with torch.inference_mode(), self._autocast():
            z = self._model.encode_text(tokens.to(self._device))
        return F.normalize(z.float(), dim=-1).cpu().numpy()

    @lazy
    def _tokenizer(self) -> Tokenizer:
        try:
            return load_tokenizer(self._source)
        except Exception as error:  # some come from the hub, by way of a library that may be missing
            raise ModelError(
                f"the tokenizer of {self.space.model!r} cannot be loaded: {_one_line(error)}"
            ) from error

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.image_embeds(pixels), dim=-1)

    def image_embeds(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `TorchTower`."""
        with self._autocast():
            z: torch.Tensor = self._model.encode_image(pixels)
        return z.float()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
