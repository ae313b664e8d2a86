"""A decoder in one file: weights, configuration, and the CLIP space it was trained for.

Version 2 may hold a learned upsampler; a file of version 1 never does.

The file is what ``torch.save`` makes of plain types and tensors, so that it loads with
``weights_only=True`` and nothing in it is ever run. A file that does not say all that it should is refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import CheckpointError, CodecError, ConfigError
from clip_feature_codec.files import atomic_writer

FORMAT = "clip-feature-codec decoder"
VERSION = 2
_BEFORE_UPSAMPLERS = 1
_FIELDS: dict[str, type] = {
    "unet": dict,
    "scheduler": dict,
    "space": dict,
    "image_size": int,
    "weights": dict,
    "upsampler": dict,
    "upsampler_weights": dict,
    "extra": dict,
}


@dataclass
class Decoder:
    """A U-Net with all that is needed to use it, and an upsampler where there is one.

    Attributes:
        unet: the network, for RGB pictures.
        scheduler: the noise schedule that it was trained with.
        space: the CLIP space of its condition.
        image_size: side in pixels of the square pictures that it was trained on.
        upsampler: makes larger pictures of those; None: bicubic interpolation does.
        extra: plain facts that travel with it (steps, figures); JSON-able.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    unet: CLIPCondUNet
    scheduler: NoiseScheduler
    space: ClipSpace
    image_size: int
    upsampler: Upsampler | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.unet.config
        if config["clip_dim"] != self.space.dim:
            raise ConfigError(
                f"the U-Net takes vectors of {config['clip_dim']} numbers, "
                f"those of {self.space.label} have {self.space.dim}"
            )
        if config["in_channels"] != 3:
            raise ConfigError(f"the U-Net paints {config['in_channels']} channels; pictures have 3")
        if config["shrinkage"] not in (None, self.scheduler.to_config()):
            raise ConfigError("the U-Net's shrinkage is for another noise schedule than the decoder's")
        multiple = self.unet.size_multiple
        if self.image_size < 1 or self.image_size % multiple:
            raise ConfigError(f"image size is {self.image_size}; this U-Net takes multiples of {multiple}")

    def sample(
        self,
        vectors: Tensor,
        layout: Tensor | None,
        *,
        steps: int = 8,
        eta: float | None = None,
        guidance: float = 1.0,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Sample pictures of ``image_size``, not enlarged: (N, 3, S, S) in [-1, 1]; see `samplers`."""
        return sample(
            self.unet,
            self.scheduler,
            vectors,
            size=self.image_size,
            steps=steps,
            eta=eta,
            guidance=guidance,
            layout=layout,
            residual=self.unet.residual(layout, (self.image_size, self.image_size)),
            generators=generators,
        )


def save_decoder(
    path: Path,
    decoder: Decoder,
    *,
    dtype: torch.dtype = torch.float32,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a decoder, whole or not at all.

    Args:
        path: the file, ``.pt`` by custom.
        decoder: what to write.
        dtype: of the weights in the file; float16 halves it.
        extra: plain facts to keep with it, instead of ``decoder.extra``.

    Raises:
        ConfigError: the dtype is neither float32 nor float16.
    """
    if dtype not in (torch.float32, torch.float16):
        raise ConfigError(f"weights cannot be saved as {dtype}; use torch.float32 or torch.float16")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "unet": decoder.unet.config,
        "scheduler": decoder.scheduler.to_config(),
        "space": decoder.space.to_json(),
        "image_size": decoder.image_size,
        "weights": _weights_of(decoder.unet, dtype),
        "upsampler": {} if decoder.upsampler is None else decoder.upsampler.config,
        "upsampler_weights": {} if decoder.upsampler is None else _weights_of(decoder.upsampler, dtype),
        "extra": decoder.extra if extra is None else extra,
    }
    with atomic_writer(path, durable=True) as file:
        torch.save(content, file)


def load_decoder(path: Path, device: torch.device | str = "cpu") -> Decoder:
    """Read what `save_decoder` wrote: float32, in eval mode, on ``device``. Nothing in the file is run.

    Raises:
        CheckpointError: there is no such file, or it is not a whole decoder checkpoint of this version.
    """
    content = _read(path)
    _check_fields(path, content)
    try:
        # On the meta device the claimed sizes cost nothing until the weights have confirmed them.
        with torch.device("meta"):
            unet = CLIPCondUNet(**content["unet"])
            upsampler = Upsampler(**content["upsampler"]) if content["upsampler"] else None
        decoder = Decoder(
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


def _weights_of(network: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to("cpu", dtype).contiguous() for name, value in network.state_dict().items()}


def _fill(path: Path, network: nn.Module, weights: dict[str, Tensor], device: torch.device | str) -> None:
    """Give a network on the meta device its weights, once they are what it expects."""
    _check_weights(path, network, weights)
    given = {name: value.to(device, torch.float32) for name, value in weights.items()}
    network.load_state_dict(given, assign=True)
    network.to(device).to(memory_format=torch.channels_last)
    network.eval()


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # every file of torch.save is a zip archive
                raise _not_a_checkpoint(path)
            file.seek(0)
            with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(f"{path}: damaged (checksum of {damaged!r}); copy or train it again")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the decoder checkpoint: {error.strerror}") from error
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise CheckpointError(
            f"{path}: damaged, or holds more than plain weights; it was refused and nothing in it was run"
        ) from error


def _not_a_checkpoint(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: not a decoder checkpoint; give a file that training has written")


def _check_fields(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _not_a_checkpoint(path)
    if content.get("version") == _BEFORE_UPSAMPLERS:
        content |= {"upsampler": {}, "upsampler_weights": {}}
    elif content.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: decoder checkpoint of version {content.get('version')!r}; "
            f"this program reads {_BEFORE_UPSAMPLERS} and {VERSION}"
        )
    for name, kind in _FIELDS.items():
        if name not in content:
            raise CheckpointError(f"{path}: the decoder checkpoint has no field {name!r}")
        if type(content[name]) is not kind:
            found = type(content[name]).__name__
            raise CheckpointError(f"{path}: field {name!r} is of type {found}, expected {kind.__name__}")


def _check_weights(path: Path, network: nn.Module, weights: dict[str, Tensor]) -> None:
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
