"""A `DiffusionDecoder` in one file: weights, configuration, and the CLIP space it was trained for.

A file that does not say all that it should is refused. Those of version 1 know of no upsampler; up to version
2 they were archives of ``torch.save`` (see `container`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.container import FORMAT, VERSION, read_container, write_container
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import CheckpointError, CodecError, ConfigError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CONFIG_FILE, WEIGHTS_FILE


def save_decoder(
    path: Path,
    decoder: DiffusionDecoder,
    *,
    dtype: torch.dtype = torch.float32,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a decoder, whole or not at all.

    Args:
        path: the file; ``.safetensors`` by custom, and whatever its name is, safetensors.
        decoder: what to write.
        dtype: of the weights in the file; float16 halves it.
        extra: plain facts to keep with it, instead of ``decoder.extra``.

    Raises:
        ConfigError: the dtype is neither float32 nor float16.
    """
    if dtype not in (torch.float32, torch.float16):
        raise ConfigError(f"weights cannot be saved as {dtype}; use torch.float32 or torch.float16")
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "space": decoder.space.to_json(),
        "extra": decoder.extra if extra is None else extra,
        **decoder.configuration(),
    }
    weights = {name: value.to("cpu", dtype).numpy() for name, value in decoder.weights().items()}
    write_container(path, facts, weights)


def export_decoder(source: Path, folder: Path, space: ClipSpace) -> None:
    """Write what `save_decoder` wrote as packs have it; every weight to the bit, in its own precision.

    Args:
        source: the file.
        folder: for ``model.safetensors``, which is such a file, and ``config.json``: the same configuration
            once more, where model hubs look for it. Nothing here reads that.
        space: the decoder's own, with the labels that others are to know it by.

    Raises:
        CheckpointError: the source is no whole decoder checkpoint.
    """
    content = read_container(source)
    parts = {"unet": content.pop("weights"), "upsampler": content.pop("upsampler_weights")}
    weights = {
        f"{part}.{name}": np.asarray(value)  # those of an old archive are torch's
        for part, tensors in parts.items()
        for name, value in tensors.items()
    }
    facts = content | {"version": VERSION, "space": space.to_json()}
    write_container(folder / WEIGHTS_FILE, facts, weights)
    write_atomic(folder / CONFIG_FILE, json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n")


def load_decoder(path: Path, device: torch.device | str = "cpu") -> DiffusionDecoder:
    """Read what `save_decoder` wrote: float32, in eval mode, on ``device``. Nothing in the file is run.

    Raises:
        CheckpointError: there is no such file, or it is not a whole decoder checkpoint of this version.
    """
    content = read_container(path)
    try:
        # On the meta device the claimed sizes cost nothing until the weights have confirmed them.
        with torch.device("meta"):
            unet = CLIPCondUNet(UNetConfig(**content["unet"]))
            upsampler = Upsampler(**content["upsampler"]) if content["upsampler"] else None
        decoder = DiffusionDecoder(
            unet,
            NoiseScheduler.from_config(content["scheduler"]),
            ClipSpace.from_json(content["space"]),
            content["image_size"],
            upsampler,
            content["extra"],
        )
    except (CodecError, TypeError, RuntimeError) as error:  # RuntimeError: sizes that overflow
        raise CheckpointError(f"{path}: its configuration is not usable: {error}") from error
    _fill(path, unet, content["weights"], device)
    if upsampler is not None:
        _fill(path, upsampler, content["upsampler_weights"], device)
    return decoder


def _fill(path: Path, network: nn.Module, weights: dict[str, Any], device: torch.device | str) -> None:
    """Give a network on the meta device its weights, once they are what it expects."""
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in weights.items()
    }
    _check_weights(path, network, tensors)
    # Copies, since the tensors may be views of the file.
    given = {name: value.to(device, torch.float32, copy=True) for name, value in tensors.items()}
    network.load_state_dict(given, assign=True)
    network.to(device).to(memory_format=torch.channels_last)
    network.eval()


def _check_weights(path: Path, network: nn.Module, weights: dict[str, Any]) -> None:
    expected = network.state_dict()
    for name in expected.keys() | weights.keys():
        if name not in weights:
            raise CheckpointError(f"{path}: the weights have no tensor {name!r}")
        if name not in expected:
            raise CheckpointError(f"{path}: the weights have a tensor {name!r} that this network does not")
        value, shape = weights[name], tuple(expected[name].shape)
        if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) != shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(f"{path}: weight {name!r} is {found}, expected floats of shape {shape}")
