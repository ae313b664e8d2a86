"""The layout layer and pictures: analysed on the way in, shown on the way out; no network, no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.arguments import require_whole
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layout.coder import LayoutCoder
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images import output_size, squash

MAX_SIZE = 8192
MATCH_REACH = 0.25
"""Steps that `match_layout` leaves a coefficient to itself; see benchmarks/match_layout.py."""


def analyse(picture: Image.Image) -> NDArray[np.float32]:
    """Layout coefficients of an RGB picture of any shape, (L,), as `FeatureCodec.encode` takes them."""
    return LayoutCoder.builtin().analyse(np.asarray(squash(picture, LayoutCoder.canvas)))


def match_layout(
    picture: Image.Image, stream: Stream, codec: FeatureCodec, reach: float = MATCH_REACH
) -> Image.Image:
    """Bring the low frequencies of a painted picture to what the layout layer says of them.

    Each coefficient of the picture that is farther than ``reach`` steps from the layer's is moved to that
    distance: the original, too, is about that near, so that the picture cannot get worse by it but where the
    coder has gone farther (a projection onto a quantisation constraint set, Zakhor 1992).

    Args:
        picture: RGB, the whole canvas.
        stream: with a layout layer.
        codec: the tables that it was coded with.
        reach: in the step that the layer was coded with.

    Raises:
        MissingLayerError: the stream has no layout layer.
        BitstreamError: the layer is no layout of ours.
    """
    (told,), coder = codec.layouts([stream]), codec.layout
    span = reach * coder.step_of(stream.layout or b"")
    own = analyse(picture)
    moved = np.clip(own, told - span, told + span) - own
    pixels = np.asarray(picture) + coder.waves(moved, *picture.size)
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def preview(stream: Stream, codec: FeatureCodec, size: int = 256, square: bool = False) -> Image.Image:
    """Show the layout layer of a stream alone.

    Args:
        stream: a stream of ``codec``.
        codec: the tables that it was coded with.
        size: longer side of the result, 1 to 8192 pixels.
        square: give out the square canvas instead of the picture's own shape.

    Raises:
        MissingLayerError: the stream has no layout layer.
        BitstreamError: the layer is no layout of ours.
        ConfigError: ``size`` is out of range.
    """
    require_whole("size", size)
    if not 1 <= size <= MAX_SIZE:
        raise ConfigError(f"size is {size}; it must be 1 to {MAX_SIZE} pixels")
    width, height = output_size(1.0 if square else stream.aspect, size)
    return Image.fromarray(codec.preview(stream, width, height))
