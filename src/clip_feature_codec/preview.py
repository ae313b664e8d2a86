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


def analyse(picture: Image.Image) -> NDArray[np.float32]:
    """Layout coefficients of an RGB picture of any shape, (L,), as `FeatureCodec.encode` takes them."""
    return LayoutCoder.builtin().analyse(np.asarray(squash(picture, LayoutCoder.canvas)))


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
