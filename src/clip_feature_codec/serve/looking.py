"""Endpoints: the store, its pictures in pages, their streams, and each picture by itself."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from starlette.responses import FileResponse, JSONResponse, Response

from clip_feature_codec.bundle import Bundle
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.files import encodable
from clip_feature_codec.links import to_base64url
from clip_feature_codec.packs import DEFAULT_PACK
from clip_feature_codec.serve.endpoint import PNG, STREAM, Answer, Ask, Endpoint
from clip_feature_codec.serve.originals import MEDIA_TYPES, Original, find_original, small_original
from clip_feature_codec.serve.painting import OPTIONS, SIZE, painted, previewed
from clip_feature_codec.serve.parameters import Parameter
from clip_feature_codec.serve.refusals import Refusal, told
from clip_feature_codec.serve.shelf import picture_of
from clip_feature_codec.store.manifest import Entry

_ID = Parameter("id", "string", "A picture's id.", 1, 8192, place="path")
_PAGE = (
    Parameter("offset", "integer", "Pictures before the first one.", 0, 2**53, default=0),
    Parameter("limit", "integer", "Pictures at most.", 1, 1000, default=200),
    Parameter("revision", "string", "The store as it was then, for a short while.", 16, 16),
)
_LENGTH = 4  # bytes before each stream


async def store(ask: Ask) -> Response:
    """What there is."""
    shelf, codec = ask.service.shelf, ask.service.workshop.codec
    view, totals = await asyncio.to_thread(lambda: (shelf.view(), shelf.totals()))
    features = codec.features
    found = {
        "name": encodable(shelf.folder.resolve().name),
        "revision": view.revision,
        "pictures": len(view.entries),
        "bytes": totals.bytes,
        "semantic_bytes": totals.semantic_bytes,
        "layout_bytes": totals.layout_bytes,
        "codec": {"tables_sha256": features.tables_sha256, "profile": features.profile},
        "model": features.space.model,
        "built_in": features.tables_sha256 == _built_in_tables(),
        "paints": bool(codec.decoder_source),
        "originals": ask.service.originals,
        "max_upload": ask.service.uploads.most_bytes,
    }
    return JSONResponse(found)


@cache
def _built_in_tables() -> str:
    return Bundle.find(DEFAULT_PACK).codec.tables_sha256


async def painter(ask: Ask) -> Response:
    """What paints."""
    with told():
        decoder = await asyncio.to_thread(lambda: ask.service.workshop.decoder)
    found = {"steps": decoder.usual.steps, "fidelity": decoder.has_fidelity, "size": decoder.image_size}
    return JSONResponse(found)


async def pictures(ask: Ask) -> Response:
    """A page of pictures."""
    view, page = await _page(ask)
    found = {
        "revision": view.revision,
        "total": len(view.entries),
        "offset": ask["offset"],
        "pictures": [picture_of(entry) for entry in page],
    }
    return JSONResponse(found)


async def streams(ask: Ask) -> Response:
    """The streams of a page, one behind the other."""
    _, page = await _page(ask)
    blobs = await asyncio.to_thread(ask.service.shelf.blobs, page)
    body = b"".join(len(blob).to_bytes(_LENGTH, "little") + blob for blob in blobs)
    return Response(body, media_type=STREAM)


async def picture(ask: Ask) -> Response:
    """One picture."""
    entry, stream = await _stream(ask)
    found = picture_of(entry) | {
        "semantic_bytes": len(stream.semantic or b""),
        "layout_bytes": len(stream.layout or b""),
        "stream": to_base64url(stream.blob),
        "original": ask.service.originals
        and await ask.service.workshop.read(lambda: _has_original(ask, entry)),
    }
    return JSONResponse(found)


async def stream(ask: Ask) -> Response:
    """A stream by itself."""
    _, found = await _stream(ask)
    return Response(found.blob, media_type=STREAM)


async def preview(ask: Ask) -> Response:
    """The layout layer of a picture."""
    _, found = await _stream(ask)
    with told():
        return await previewed(ask, found)


async def paint(ask: Ask) -> Response:
    """A picture, painted."""
    _, found = await _stream(ask)
    with told():
        return await painted(ask, found)


async def original(ask: Ask) -> Response:
    """The picture that a stream was made from."""
    workshop = ask.service.workshop
    entry = await asyncio.to_thread(ask.service.shelf.entry, ask["id"])
    found = await workshop.read(lambda: _original(ask, entry))
    if ask["size"] is None:
        if isinstance(found.content, bytes):
            return Response(found.content, media_type=found.media_type)
        return FileResponse(found.content, media_type=found.media_type)
    small = await workshop.read(lambda: small_original(found, ask["size"], workshop.max_pixels))
    return Response(small, media_type=MEDIA_TYPES["JPEG"])


async def _page(ask: Ask) -> Any:
    shelf = ask.service.shelf

    def read() -> Any:
        view = shelf.view(ask["revision"])
        return view, shelf.page(view, ask["offset"], ask["limit"])

    return await asyncio.to_thread(read)


async def _stream(ask: Ask) -> tuple[Entry, Stream]:
    shelf = ask.service.shelf

    def read() -> tuple[Entry, Stream]:
        entry = shelf.entry(ask["id"])
        return entry, shelf.stream(entry)

    with told():
        return await asyncio.to_thread(read)


def _original(ask: Ask, entry: Entry) -> Original:
    if not ask.service.originals:
        raise Refusal(404, "this server gives out no originals")
    return find_original(ask.service.shelf.store, entry)


def _has_original(ask: Ask, entry: Entry) -> bool:
    try:
        _original(ask, entry)
    except Refusal:
        return False
    return True


ENDPOINTS = (
    Endpoint(
        "GET", "/api/store", "store", "Tell what the store holds.", store,
        Answer("The store.", schema="Store"),
    ),
    Endpoint(
        "GET", "/api/painter", "painter", "Tell how pictures are painted.", painter,
        Answer("The decoder.", schema="Painter"),
    ),
    Endpoint(
        "GET", "/api/pictures", "pictures", "List the pictures, in the order in which they came.", pictures,
        Answer("A page of pictures.", schema="Pictures"), _PAGE,
    ),
    Endpoint(
        "GET", "/api/streams", "streams", "Give the streams of a page of pictures.", streams,
        Answer(
            "For each picture, in order: the length of its stream, four bytes, the lowest first, and the "
            "stream. A length of 0: it is damaged.",
            (STREAM,),
        ),
        _PAGE,
    ),
    Endpoint(
        "GET", "/api/pictures/{id}", "picture", "Tell what is known of a picture.", picture,
        Answer("A picture.", schema="PictureAlone"), (_ID,),
    ),
    Endpoint(
        "GET", "/api/pictures/{id}/stream", "stream", "Give a picture's stream.", stream,
        Answer("A .clp file.", (STREAM,)), (_ID,),
    ),
    Endpoint(
        "GET", "/api/pictures/{id}/preview", "preview", "Show the layout layer of a picture alone.", preview,
        Answer("The preview.", (PNG,)), (_ID, SIZE),
    ),
    Endpoint(
        "GET", "/api/pictures/{id}/painted", "painted", "Paint a picture.", paint,
        Answer("The picture.", (PNG,)), (_ID, *OPTIONS),
    ),
    Endpoint(
        "GET", "/api/pictures/{id}/original", "original",
        "Give the original, where it is still there as it was.", original,
        Answer("The file as it is, or where a size is given, a JPEG file.", tuple(MEDIA_TYPES.values())),
        (_ID, Parameter("size", "integer", "Longer side in pixels, at most.", 1, 4096)),
    ),
)  # fmt: skip
