"""From streams to pictures: the decoder's samples, brought to each picture's own shape."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.diffusion.checkpoint import Decoder
from clip_feature_codec.diffusion.conditions import Conditions, read_conditions
from clip_feature_codec.diffusion.samplers import noise_generators
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images import output_size, resize_to, to_pictures

logger = logging.getLogger(__name__)

BATCH_SIZE = 16


@dataclass(frozen=True)
class PaintOptions:
    """How to sample and in which size to give out.

    Attributes:
        steps: network evaluations, 1 to the decoder's number of timesteps.
        eta: None samples by DPM-Solver++; a number by DDIM with this noise, 0 (deterministic) to 1 (as DDPM).
        guidance: classifier-free guidance; 1 is none, more follows the vector more closely.
        fidelity: 0 to 1: from a sample, sharp and invented where the stream says nothing, towards the mean of
            all pictures that the stream allows, smooth and nearest to the original on average (see `paint`).
        seed: a picture's noise is drawn from this and its stream alone.
        size: longer side of the result, in pixels.
        square: give out the square canvas instead of the picture's own shape.

    Raises:
        ConfigError: an option is out of range (those of the sampler are checked on sampling).
    """

    steps: int = 8
    eta: float | None = None
    guidance: float = 2.0
    fidelity: float = 0.0
    seed: int = 0
    size: int = 256
    square: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 8192:
            raise ConfigError(f"size is {self.size}; it must be 1 to 8192 pixels")
        if not 0 <= self.fidelity <= 1:
            raise ConfigError(f"fidelity is {self.fidelity}; it must be from 0 to 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; it must be a whole number from 0 to 2^63 - 1")


def paint(
    streams: Sequence[Stream],
    codec: FeatureCodec,
    decoder: Decoder,
    options: PaintOptions,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Image.Image]:
    """Decode streams to RGB pictures, in order; what shares a batch changes a picture by rounding only.

    Streams with a vector, a layout or both may stand side by side. A decoder that takes no layouts paints
    from the vectors alone, and says so in one line of the log.

    A fidelity f gives (1 - f) sample + f mean: the straight line between the two is the best that can be had
    at each perceptual quality between theirs (Freirich et al. 2021, theorem 3). The mean is what the network
    predicts from pure noise, in one evaluation more.

    Raises:
        SpaceMismatchError: codec and decoder belong to different CLIP spaces.
        MissingLayerError: a stream holds nothing that the decoder takes.
        BitstreamError: a stream's payload is none of ours.
        ConfigError: an option is out of range, or there is a fidelity and the decoder's last timestep is not
            pure noise.
    """
    if options.fidelity and not decoder.scheduler.zero_terminal_snr:
        raise ConfigError("this decoder has no fidelity to choose: it was trained without zero_terminal_snr")
    decoder.space.require_same(codec.space, "the streams' codec")
    told = False
    for start in range(0, len(streams), batch_size):
        batch = streams[start : start + batch_size]
        conditions = read_conditions(batch, codec, decoder.unet.config["layout"])
        if conditions.ignored and not told:
            logger.info("this decoder takes no layouts: the layout layers of the streams are ignored")
            told = True
        sizes = [painted_size(stream, options) for stream in batch]
        canvases = _canvases(decoder, conditions, options, batch)
        for size, canvas in zip(sizes, to_pictures(canvases), strict=True):
            yield resize_to(canvas, size)


def _canvases(
    decoder: Decoder, conditions: Conditions, options: PaintOptions, batch: Sequence[Stream]
) -> Tensor:
    """Square pictures (N, 3, S, S) in [-1, 1]."""
    told = conditions.vectors, conditions.planes()
    keys = options.seed, [stream.blob for stream in batch]
    mean = None
    if options.fidelity:
        mean = decoder.sample(*told, steps=1, generators=noise_generators(*keys))
        if options.fidelity == 1:
            return mean
    canvases = decoder.sample(
        *told,
        steps=options.steps,
        eta=options.eta,
        guidance=options.guidance,
        generators=noise_generators(*keys),
    )
    if decoder.upsampler is not None:
        # For small pictures, too: it mends the canvas's own flaws, and a picture is the same at every size.
        with torch.no_grad():
            canvases = decoder.upsampler(canvases).clamp(-1.0, 1.0)
    if mean is None:
        return canvases
    return torch.lerp(canvases, F.interpolate(mean, canvases.shape[-2:], mode="bicubic"), options.fidelity)


def painted_size(stream: Stream, options: PaintOptions) -> tuple[int, int]:
    """Give the (width, height) in pixels that `paint` brings a stream's picture to."""
    return output_size(1.0 if options.square else stream.aspect, options.size)
