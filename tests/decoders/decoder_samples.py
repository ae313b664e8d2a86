"""A small decoder of the diffusion kind, and its files in the format of now and in that of old."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.container import write_container
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.errors import CheckpointError

DIM = 6


def make_space(dim: int = DIM) -> ClipSpace:
    return ClipSpace("test-model", "test-tag", "ab" * 32, dim, {"size": 16})


def make_decoder(**changes: Any) -> DiffusionDecoder:
    config = UNetConfig(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), patch=2)
    unet = CLIPCondUNet(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in unet.parameters():
        parameter.data.normal_(std=0.2, generator=generator)
    parts: dict[str, Any] = {
        "unet": unet,
        "scheduler": NoiseScheduler(100, "linear", "v", zero_terminal_snr=True),
        "space": make_space(),
        "image_size": 16,
    }
    return DiffusionDecoder(**(parts | changes))


def outputs(decoder: DiffusionDecoder) -> Tensor:
    """What its network gives for some inputs."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    z = nn.functional.normalize(torch.randn(2, DIM, generator=generator))
    with torch.no_grad():
        out: Tensor = decoder.unet(x, z, torch.tensor([5, 60]))
    return out


def content_of(decoder: DiffusionDecoder, **changes: Any) -> dict[str, Any]:
    """All that a decoder's file says, with some fields changed; None leaves a field out."""
    weights = {name.partition(".")[::2]: value for name, value in decoder.weights().items()}
    content: dict[str, Any] = {
        "format": "clip-feature-codec decoder",
        "version": 3,
        **decoder.configuration(),
        "space": decoder.space.to_json(),
        "extra": {"steps": 7},
        "weights": {name: value.contiguous() for (part, name), value in weights.items() if part == "unet"},
        "upsampler_weights": {name: value for (part, name), value in weights.items() if part != "unet"},
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def write_now(path: Path, content: dict[str, Any]) -> None:
    """Write a file as it is written today, with a checksum of its own."""
    facts = {name: value for name, value in content.items() if not name.endswith("weights")}
    tensors = {f"unet.{name}": value for name, value in content.get("weights", {}).items()}
    tensors |= {f"upsampler.{name}": value for name, value in content.get("upsampler_weights", {}).items()}
    write_container(path, facts, {name: value.numpy() for name, value in tensors.items()})


def write_archive(path: Path, content: dict[str, Any]) -> None:
    """Write a file as version 2 of the format was written."""
    version = {"version": 2} if content.get("version") == 3 else {}
    torch.save(content | version, path)


def refusal(path: Path) -> str:
    """The one line with which a file is refused; it names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_decoder(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message
