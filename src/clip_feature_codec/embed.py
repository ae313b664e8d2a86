"""Pictures and words to CLIP vectors; the only module that imports open_clip."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub import constants as hub
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.errors import CodecError, ConfigError, ModelError
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder

log = logging.getLogger(__name__)

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"

_LONGEST_STRIP = 16


class ClipEmbedder:
    """A CLIP model with weights, ready to embed: made by `load` or `for_space`.

    Attributes:
        space: the CLIP space its vectors lie in.
        device: where it runs.
        preprocess: the model's own preprocessing of one RGB picture: PIL image -> float32 (3, S, S).
    """

    def __init__(
        self, model: torch.nn.Module, space: ClipSpace, tokenizer_name: str, device: torch.device
    ) -> None:
        self.space = space
        self.device = device
        self.preprocess = _Preprocess(space.preprocessing)
        self._model: Any = model.to(device).eval().requires_grad_(False)
        self._tokenizer_name = tokenizer_name

    @classmethod
    def load(
        cls, model: str = DEFAULT_PACK, pretrained: str | None = None, device: str | torch.device = "auto"
    ) -> ClipEmbedder:
        """Load a CLIP model and its weights; never one with random weights.

        Args:
            model: the name of a pack (``mini``); a folder with ``open_clip_config.json`` and weights; a name
                that open_clip knows; or a ``.json`` file with a model configuration of open_clip's form.
            pretrained: with a name or a ``.json`` file: a pretrained tag of open_clip's, which is
                downloaded at its first use, or a local ``.pt`` or ``.safetensors`` file.
            device: see `clip_feature_codec.devices.pick_device`.

        Raises:
            ModelError: the model is unknown, or its weights cannot be found, read or downloaded.
            ConfigError: ``pretrained`` is given with a model that brings its own weights.
        """
        target = device if isinstance(device, torch.device) else pick_device(device)
        pack = pack_folder(model)
        folder = pack / "clip" if pack else Path(model)
        try:
            if model and folder.is_dir():
                if pretrained not in (None, "pack", "folder"):
                    raise ConfigError(
                        f"model {model!r} has its own weights: leave out pretrained={pretrained!r}"
                    )
                name = f"local-dir:{folder}"
                net = _create(name)
                labels = (model, "pack") if pack else (str(folder.resolve()), "folder")
            else:
                name = _known_name(model)
                net, found = _with_weights(name, pretrained)
                labels = (str(Path(model).resolve()) if model.endswith(".json") else model, found)
            return cls(net, _space(net, *labels), name, target)
        except CodecError:
            raise
        except Exception as error:  # over bad files, torch and open_clip raise nearly anything
            raise ModelError(f"CLIP model {model!r} cannot be loaded: {_one_line(error)}") from error

    @classmethod
    def for_space(
        cls, space: ClipSpace, model: str | None = None, pretrained: str | None = None, device: str = "auto"
    ) -> ClipEmbedder:
        """Load the model that ``space`` names (or the one given) and make sure that it is the same space.

        Raises:
            SpaceMismatchError: the model found there has other weights, dimension or preprocessing.
            ModelError: as `load`.
        """
        if model is None:
            model, pretrained = space.model, pretrained or space.pretrained
        embedder = cls.load(model, pretrained, device)
        space.require_same(embedder.space, "the CLIP model")
        return embedder

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self.space.dim

    def embed_images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embed RGB pictures of any sizes as one batch: float32 (N, D), unit length."""
        if not pictures:
            return self._no_vectors()
        return self.embed_batch(torch.stack([self.preprocess(picture) for picture in pictures]))

    def embed_batch(self, pixels: torch.Tensor) -> np.ndarray:
        """Embed what `preprocess` made: float32 (N, 3, S, S) -> float32 (N, D), unit length."""
        with torch.inference_mode():
            return self._encode(pixels.to(self.device, non_blocking=True)).cpu().numpy()

    def encode_tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Embed decoder output, differentiably: (N, 3, H, W) in [-1, 1] -> float32 (N, D), unit length.

        The canvas is resized to the model's square input, as its preprocessing does with a square picture.
        """
        config = self.space.preprocessing
        x = F.interpolate(
            x.float(),
            size=_square(config["size"]),
            mode="bilinear" if config["interpolation"] == "bilinear" else "bicubic",  # as open_clip chooses
            antialias=True,
            align_corners=False,
        )
        mean, std = (torch.tensor(config[key], device=x.device).view(3, 1, 1) for key in ("mean", "std"))
        return self._encode(((x + 1) / 2 - mean) / std)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts: float32 (N, D), unit length.

        Raises:
            ModelError: the model's tokenizer cannot be had without a connection.
        """
        if not texts:
            return self._no_vectors()
        tokens = self._tokenizer(list(texts))
        with torch.inference_mode(), self._autocast():
            z = self._model.encode_text(tokens.to(self.device))
        return F.normalize(z.float(), dim=-1).cpu().numpy()

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return open_clip.get_tokenizer(self._tokenizer_name)
        except Exception as error:  # some come from the hub, by way of a library that may be missing
            raise ModelError(
                f"the tokenizer of {self.space.model!r} cannot be loaded: {_one_line(error)}"
            ) from error

    def _no_vectors(self) -> np.ndarray:
        return np.zeros((0, self.dim), np.float32)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            z = self._model.encode_image(pixels)
        return F.normalize(z.float(), dim=-1)

    def _autocast(self) -> torch.autocast:
        # On a GPU only: there the vectors lose less than coding takes from them, and twice the speed is won.
        dtype = autocast_dtype(self.device) if self.device.type == "cuda" else None
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


class _Preprocess:
    """A model's own preprocessing; travels to worker processes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
        self._crops = config["resize_mode"] == "shortest"

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """Turn an RGB picture into float32 (3, S, S)."""
        if self._crops:
            picture = _middle_of_strip(picture)
        pixels: torch.Tensor = self._transform(picture)
        return pixels


def _middle_of_strip(picture: Image.Image) -> Image.Image:
    """Cut a picture of over 1:16 down to that.

    Models that crop to the central square see nothing of the rest, but resize it first: a line of pixels,
    224 times as long and wide, takes gigabytes.
    """
    limit = _LONGEST_STRIP * min(picture.size)
    if max(picture.size) <= limit:
        return picture
    width, height = (min(side, limit) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _known_name(model: str) -> str:
    """What open_clip calls a model that is given by name or as a ``.json`` file."""
    if model.endswith(".json"):
        try:
            config = json.loads(Path(model).read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(f"CLIP model configuration {model} cannot be read: {_one_line(error)}") from None
        # open_clip passes over a file without these, and stumbles over a broken one ever after.
        if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise ModelError(f"CLIP model configuration {model} needs embed_dim, vision_cfg and text_cfg")
        open_clip.add_model_config(model)
        return Path(model).stem
    if model not in open_clip.list_models():
        raise ModelError(
            f"CLIP model {model!r} is neither a pack, nor a folder with open_clip_config.json, "
            "nor a .json file, nor a model of open_clip's"
        )
    return model


def _create(name: str, **options: Any) -> torch.nn.Module:
    """Build a model with its weights, and without running anything that a weights file may contain."""
    # Where torch.load fails with a TypeError, open_clip tries again in torch's default mode, which before
    # torch 2.6 runs what it unpickles.
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        model: torch.nn.Module = open_clip.create_model(name, require_pretrained=True, **options)
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before
    return model


def _with_weights(name: str, pretrained: str | None) -> tuple[torch.nn.Module, str]:
    """Build a model with weights from a file or a tag; also give out how to find them again."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        raise ModelError(
            f"CLIP model {name!r} needs weights: name a pretrained tag ({_some(tags)}) "
            "or a local .pt or .safetensors file"
        )
    if Path(pretrained).is_file():
        file = str(Path(pretrained).resolve())  # absolute, it cannot be taken for a tag
        return _create(name, pretrained=file), file
    if pretrained not in tags:
        raise ModelError(
            f"weights {pretrained!r} of CLIP model {name!r} are neither a file nor one of its tags "
            f"({_some(tags)})"
        )
    config = open_clip.get_pretrained_cfg(name, pretrained)
    net = _create(
        name,
        pretrained=_fetch(name, pretrained, config),
        # Weights trained with QuickGELU load into a model with GELU without a word, and give other vectors.
        force_quick_gelu=config.get("quick_gelu", False),
        force_preprocess_cfg={
            k: v for k, v in config.items() if k in PreprocessCfg.__dataclass_fields__ and k != "size"
        },
    )
    return net, pretrained


def _fetch(name: str, tag: str, config: dict[str, Any]) -> str:
    """The file with a tag's weights: from the cache, else downloaded into it."""
    log.info("looking for the weights of %s/%s (downloaded at the first use)", name, tag)
    offline = hub.HF_HUB_OFFLINE
    try:
        # Without a connection the hub's client would retry for most of a minute before it tries its cache.
        hub.HF_HUB_OFFLINE = offline or not _hub_answers()
        return str(open_clip.download_pretrained(config))
    except Exception as error:  # whatever the network or the hub's client raises
        raise ModelError(
            f"the weights of CLIP model {name}/{tag} are not in the cache ({hub.HF_HUB_CACHE}) and cannot be "
            "downloaded: connect, or give a local file with --pretrained FILE"
        ) from error
    finally:
        hub.HF_HUB_OFFLINE = offline


def _hub_answers() -> bool:
    if getproxies().keys() & {"https", "all"}:
        return True  # a proxy resolves names for us
    try:
        socket.getaddrinfo(urlsplit(hub.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def hash_weights(network: torch.nn.Module) -> hashlib._Hash:
    """SHA-256 over names, shapes and float32 values of every tensor of a network, to be gone on with."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest


def _space(model: Any, name: str, pretrained: str) -> ClipSpace:
    """Fingerprint a loaded model: every tensor of it, and the activation, which no tensor shows."""
    model.eval()  # before anything runs through it: batch norms would learn from it
    digest = hash_weights(model)
    if any(type(module).__name__ == "QuickGELU" for module in model.modules()):
        digest.update(b"QuickGELU")
    preprocessing = asdict(PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)))
    preprocessing = {k: list(v) if isinstance(v, tuple) else v for k, v in preprocessing.items()}
    with torch.inference_mode():
        side = _square(preprocessing["size"])
        dim = model.encode_image(torch.zeros(1, 3, *side)).shape[-1]
    return ClipSpace(name, pretrained, digest.hexdigest(), int(dim), preprocessing)


def _square(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "it has none"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
