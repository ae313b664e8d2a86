"""Endpoints: the codec itself, for pictures and streams that are sent."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from clip_feature_codec.codec.bitstream import MAX_STREAM_BYTES, Stream
from clip_feature_codec.codec.rate import CHOICES, Rate
from clip_feature_codec.serve.batching import unless_gone
from clip_feature_codec.serve.endpoint import ANY_PICTURE, PNG, STREAM, Answer, Ask, Endpoint
from clip_feature_codec.serve.painting import OPTIONS, SIZE, painted, previewed
from clip_feature_codec.serve.parameters import Parameter
from clip_feature_codec.serve.refusals import told

_RATE = (
    Parameter("max_bytes", "integer", "No stream is larger than this.", 1, MAX_STREAM_BYTES),
    Parameter("quality", "number", "0: smallest, 100: best; 50 where nothing is asked.", 0, 100),
    Parameter("target_cosine", "number", "Least cosine of the decoded vector with the picture's own.", 0, 1),
    Parameter("layers", "string", "The vector, the coarse layout, or both.", choices=CHOICES, default="both"),
)


async def encode(ask: Ask) -> Response:
    """A picture to a stream."""
    workshop = ask.service.workshop
    with told():
        rate = Rate(**{one.name: ask[one.name] for one in _RATE})
        async with ask.service.uploads.body(ask.request) as data:
            blob = await unless_gone(ask.request, workshop.encode(data, rate))
    return Response(blob, media_type=STREAM)


async def decode(ask: Ask) -> Response:
    """A stream to a painted picture."""
    with told():
        return await painted(ask, await _sent(ask))


async def preview(ask: Ask) -> Response:
    """A stream to its layout layer."""
    with told():
        return await previewed(ask, await _sent(ask))


async def _sent(ask: Ask) -> Stream:
    """The stream that is sent.

    Raises:
        BitstreamError: it is none of the store's codec.
    """
    async with ask.service.uploads.body(ask.request) as data:
        return await asyncio.to_thread(ask.service.workshop.codec.features.parse, data)


ENDPOINTS = (
    Endpoint(
        "POST", "/api/encode", "encode", "Encode a picture.", encode,
        Answer("A .clp file.", (STREAM,)), _RATE, (ANY_PICTURE,),
    ),
    Endpoint(
        "POST", "/api/decode", "decode", "Paint the picture of a stream.", decode,
        Answer("The picture.", (PNG,)), OPTIONS, (STREAM,),
    ),
    Endpoint(
        "POST", "/api/preview", "previewUpload", "Show the layout layer of a stream.", preview,
        Answer("The preview.", (PNG,)), (SIZE,), (STREAM,),
    ),
)  # fmt: skip
