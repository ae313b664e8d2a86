"""The interface as OpenAPI 3.1 has it, made from the endpoints themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clip_feature_codec import __version__
from clip_feature_codec.serve.endpoint import JSON, Endpoint

_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_TEXT: dict[str, Any] = {"type": "string"}
_PERHAPS_COUNT: dict[str, Any] = {"type": ["integer", "null"], "minimum": 0}
_STREAM = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "description": "The stream in base64url."}
_COSINE = {"type": "number", "minimum": -1, "maximum": 1}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _several(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _named(name)}


def _named(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_PICTURE = {
    "id": _TEXT | {"description": "What it is called in addresses."},
    "name": _TEXT,
    "width": _COUNT | {"description": "Of the original, in pixels."},
    "height": _COUNT,
    "bytes": _COUNT | {"description": "Of the stream."},
    "semantic_bytes": _PERHAPS_COUNT | {"description": "Of these, the vector's; null: not written down."},
    "layout_bytes": _PERHAPS_COUNT | {"description": "The layout's."},
    "source_bytes": _COUNT | {"description": "Of the original's file."},
}
_FOUND = _PICTURE | {"cosine": _COSINE, "stream": _STREAM}
_YES = {"type": "boolean"}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Error": _object(error=_TEXT | {"description": "What is wrong, in one line."}),
    "Store": _object(
        name=_TEXT,
        revision=_TEXT | {"description": "Changes with the store."},
        pictures=_COUNT,
        bytes=_COUNT | {"description": "Of all streams."},
        semantic_bytes=_COUNT,
        layout_bytes=_COUNT,
        codec=_object(tables_sha256=_TEXT, profile={"type": "string", "enum": ["int8", "klt"]}),
        model=_TEXT | {"description": "The CLIP model whose vectors are in the streams."},
        built_in=_YES | {"description": "Whether its streams are those of the built-in model."},
        paints=_YES | {"description": "Whether there is a decoder."},
        originals=_YES | {"description": "Whether originals are given out."},
        max_upload=_COUNT | {"description": "Bytes of a body, at most."},
    ),
    "Painter": _object(
        steps=_COUNT | {"description": "Network evaluations where nothing is asked."},
        fidelity=_YES | {"description": "Whether there is a fidelity to choose."},
        size=_COUNT | {"description": "Side of the canvas in pixels."},
    ),
    "Picture": _object(**_PICTURE),
    "PictureAlone": _object(
        **_PICTURE | {"semantic_bytes": _COUNT, "layout_bytes": _COUNT, "stream": _STREAM, "original": _YES}
    ),
    "Pictures": _object(revision=_TEXT, total=_COUNT, offset=_COUNT, pictures=_several("Picture")),
    "Found": _object(**_FOUND),
    "Results": _object(results=_several("Found")),
    "Groups": _object(total=_COUNT, groups={"type": "array", "items": _several("Found")}),
}
"""What the JSON of each kind looks like."""


def description(endpoints: Sequence[Endpoint], *, token: bool) -> dict[str, Any]:
    """The whole description.

    Args:
        endpoints: what there is.
        token: whether a token is asked for.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    components: dict[str, Any] = {"schemas": SCHEMAS}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "clip-feature-codec",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "A store of pictures in a few hundred bytes each: looked at, searched, painted.",
        },
        "paths": paths,
        "components": components,
    }
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answer = endpoint.answer
    content = {media: {"schema": _named(answer.schema)} if media == JSON else {} for media in answer.media}
    error = {"description": "It is refused.", "content": {JSON: {"schema": _named("Error")}}}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.about,
        "parameters": [parameter.described() for parameter in endpoint.parameters],
        "responses": {"200": {"description": answer.about, "content": content}, "4XX": error, "5XX": error},
    }
    if endpoint.body:
        operation["requestBody"] = {"required": True, "content": {media: {} for media in endpoint.body}}
    return operation
