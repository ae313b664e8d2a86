"""From streams to pictures: what a decoder paints, brought to each picture's own shape."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from PIL import Image

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.decoders.conditions import read_conditions
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.images import output_size, resize_to
from clip_feature_codec.preview import match_layout
from clip_feature_codec.progress import Progress, silent

logger = logging.getLogger(__name__)

BATCH_SIZE = 16


def paint(
    streams: Sequence[Stream],
    codec: FeatureCodec,
    decoder: Decoder,
    options: PaintOptions,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
) -> Iterator[Image.Image]:
    """Decode streams to RGB pictures, in order; what shares a batch changes a picture by rounding only.

    Streams with a vector, a layout or both may stand side by side. A decoder that takes no layouts paints
    from the vectors alone, and says so in one line of the log.

    Args:
        streams: parsed by ``codec``.
        codec: their tables.
        decoder: of the same CLIP space.
        options: how to paint.
        batch_size: pictures painted at a time.
        progress: told of the pictures painted, as the stage ``decoding``.

    Raises:
        SpaceMismatchError: codec and decoder belong to different CLIP spaces.
        MissingLayerError: a stream holds nothing that the decoder takes.
        BitstreamError: a stream is damaged.
        ConfigError: an option is out of the decoder's range, or it has no fidelity to choose.
    """
    if options.fidelity and not decoder.has_fidelity:
        raise ConfigError(
            "this decoder has no fidelity to choose: it was trained without zero_terminal_snr, or takes no "
            "layouts"
        )
    decoder.space.require_same(codec.space, "the streams' codec")
    told = False
    progress("decoding", 0, len(streams))
    for start in range(0, len(streams), batch_size):
        batch = streams[start : start + batch_size]
        conditions = read_conditions(batch, codec, decoder.layout_side)
        if conditions.ignored and not told and not options.match_layout:
            logger.info(
                "this decoder takes no layouts: the layout layers of the streams are ignored; --match-layout "
                "gives what it paints their low frequencies"
            )
            told = True
        canvases = decoder.paint(conditions, options, [stream.blob for stream in batch])
        for done, (stream, canvas) in enumerate(zip(batch, canvases, strict=True), start + 1):
            if options.match_layout and stream.layout is not None:
                canvas = match_layout(canvas, stream, codec)  # noqa: PLW2901
            yield resize_to(canvas, painted_size(stream, options))
            progress("decoding", done, len(streams))


def painted_size(stream: Stream, options: PaintOptions) -> tuple[int, int]:
    """Give the (width, height) in pixels that `paint` brings a stream's picture to."""
    return output_size(1.0 if options.square else stream.aspect, options.size)
