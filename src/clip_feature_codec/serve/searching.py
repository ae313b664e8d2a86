"""Endpoints: pictures by words, by another picture, and those that are there more than once."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from clip_feature_codec.codec.bitstream import MAGIC
from clip_feature_codec.links import to_base64url
from clip_feature_codec.serve.batching import unless_gone
from clip_feature_codec.serve.endpoint import ANY_PICTURE, STREAM, Answer, Ask, Endpoint
from clip_feature_codec.serve.parameters import Parameter
from clip_feature_codec.serve.refusals import Refusal, told
from clip_feature_codec.serve.shelf import Shelf, picture_of
from clip_feature_codec.serve.threads import in_background
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.search.duplicates import DEFAULT_THRESHOLD

_COUNT = Parameter("count", "integer", "Pictures at most.", 1, 1000, default=100)
_QUERY = (
    Parameter("text", "string", "Words.", 1, 1000),
    Parameter("picture", "string", "The id of a picture of the store.", 1, 8192),
    _COUNT,
)
_GROUPS = (
    Parameter(
        "threshold",
        "number",
        "Least cosine of two that count as the same.",
        0.5,
        1,
        default=DEFAULT_THRESHOLD,
    ),
    Parameter("count", "integer", "Groups at most.", 1, 1000, default=200),
)


async def search(ask: Ask) -> Response:
    """By words, or by a picture of the store."""
    text, picture = ask["text"], ask["picture"]
    if (text is None) == (picture is None):
        raise Refusal(400, "a search is by text or by picture: give one of them")
    service = ask.service
    with told():
        if picture is not None:
            vector = await asyncio.to_thread(lambda: service.shelf.vector(service.shelf.entry(picture)))
        elif text.strip():
            vector = await unless_gone(ask.request, service.workshop.embed_text(None, text.strip()))
        else:
            raise Refusal(400, "text: found nothing but spaces, expected words")
        return await _nearest(ask, vector)


async def search_upload(ask: Ask) -> Response:
    """By a picture that is sent."""
    async with ask.service.uploads.body(ask.request) as data:
        with told():
            return await _nearest(ask, await unless_gone(ask.request, _vector(ask, data)))


async def duplicates(ask: Ask) -> Response:
    """What is there more than once."""
    service = ask.service

    def look() -> dict[str, Any]:
        groups = service.finder.duplicates(ask["threshold"])
        listed = [
            [_found(service.shelf, twin.entry, twin.cosine) for twin in group]
            for group in groups[: ask["count"]]
        ]
        return {"total": len(groups), "groups": listed}

    with told():
        return JSONResponse(await in_background(look))


async def _vector(ask: Ask, data: bytes) -> NDArray[np.float32]:
    """The vector of a picture's file, or of a stream."""
    workshop = ask.service.workshop
    if data[:1] == bytes([MAGIC]):
        return await asyncio.to_thread(workshop.codec.vector, data)
    return await workshop.embed_picture(data)


async def _nearest(ask: Ask, vector: NDArray[np.float32]) -> Response:
    service = ask.service

    def look() -> list[dict[str, Any]]:
        hits = service.finder.nearest(vector, ask["count"])
        return [_found(service.shelf, hit.entry, hit.cosine) for hit in hits]

    return JSONResponse({"results": await in_background(look)})


def _found(shelf: Shelf, entry: Entry, cosine: float) -> dict[str, Any]:
    """A picture, its cosine, and its stream, so that it can be shown."""
    (blob,) = shelf.blobs([entry])
    return picture_of(entry) | {"cosine": round(cosine, 6), "stream": to_base64url(blob)}


_RESULTS = Answer("The nearest pictures, the best one first.", schema="Results")

ENDPOINTS = (
    Endpoint(
        "GET", "/api/search", "search", "Search by words or by a picture of the store.", search,
        _RESULTS, _QUERY,
    ),
    Endpoint(
        "POST", "/api/search", "searchUpload", "Search by a photograph, or by a stream.", search_upload,
        _RESULTS, (_COUNT,), (ANY_PICTURE, STREAM),
    ),
    Endpoint(
        "GET", "/api/duplicates", "duplicates", "List pictures that are there more than once.", duplicates,
        Answer("Groups of pictures.", schema="Groups"), _GROUPS,
    ),
)  # fmt: skip
