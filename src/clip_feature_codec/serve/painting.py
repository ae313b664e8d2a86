"""How a picture is to be painted, as addresses say it."""

from __future__ import annotations

import asyncio

from PIL import Image
from starlette.responses import Response

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.decoders.options import MAX_SEED, PaintOptions
from clip_feature_codec.images import png_bytes
from clip_feature_codec.preview import preview
from clip_feature_codec.serve.batching import unless_gone
from clip_feature_codec.serve.endpoint import PNG, Ask
from clip_feature_codec.serve.parameters import Parameter

_MOST_STEPS = 64
_MOST_SIZE = 1024

_DEFAULT = PaintOptions()
SIZE = Parameter("size", "integer", "Longer side in pixels.", 1, _MOST_SIZE, default=_DEFAULT.size)
OPTIONS = (
    SIZE,
    Parameter("steps", "integer", "Network evaluations; by default the decoder's own.", 1, _MOST_STEPS),
    Parameter(
        "fidelity",
        "number",
        "0: sharp and invented; 1: smooth and nearest to the original.",
        0,
        1,
        default=_DEFAULT.fidelity,
    ),
    Parameter("seed", "integer", "Chooses the noise.", 0, MAX_SEED, default=_DEFAULT.seed),
    Parameter("guidance", "number", "Classifier-free guidance; 1 is none.", -20, 20),
    Parameter("match_layout", "boolean", "Hold the low frequencies to the layout layer.", default=False),
)
"""Those of `PaintOptions` that a client may choose."""


async def painted(ask: Ask, stream: Stream) -> Response:
    """Paint a stream as a PNG, together with others that are asked for at the same time."""
    options = PaintOptions.of(**{one.name: ask[one.name] for one in OPTIONS})
    picture = await unless_gone(ask.request, ask.service.workshop.paint(options, stream))
    return await png(picture)


async def previewed(ask: Ask, stream: Stream) -> Response:
    """The layout layer of a stream as a PNG."""
    codec = ask.service.shelf.store.codec
    return await png(await asyncio.to_thread(preview, stream, codec, ask["size"]))


async def png(picture: Image.Image) -> Response:
    """A picture as PNG."""
    return Response(await asyncio.to_thread(png_bytes, picture), media_type=PNG)
