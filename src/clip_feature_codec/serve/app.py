"""The whole as one ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import clip_feature_codec
from clip_feature_codec.serve import coding, looking, searching
from clip_feature_codec.serve.description import description
from clip_feature_codec.serve.endpoint import Endpoint, Service
from clip_feature_codec.serve.guard import Guard

log = logging.getLogger(__name__)

ENDPOINTS = (*looking.ENDPOINTS, *searching.ENDPOINTS, *coding.ENDPOINTS)
PAGE = Path(__file__).parent / "page"
WEB = Path(clip_feature_codec.__file__).parent / "web"
"""The npm package: what decodes streams in the browser."""


def make_app(service: Service, host: str = "127.0.0.1", token: str | None = None, web: Path = WEB) -> ASGIApp:
    """The page and the interface of a store.

    Args:
        service: the store, and what works on it.
        host: the name or address that is listened at (see `Guard`).
        token: what clients must know; None: nothing.
        web: the npm package, or a folder with that and what paints in the browser (see recipes/web).
    """
    described = description(ENDPOINTS, token=token is not None)
    routes: list[Route | Mount] = [
        Route("/", lambda _: FileResponse(PAGE / "index.html")),
        Route("/openapi.json", lambda _: JSONResponse(described)),
        *(Route(one.path, _responder(one, service), methods=[one.method]) for one in ENDPOINTS),
        Mount("/page", StaticFiles(directory=PAGE)),
        Route("/view", lambda _: RedirectResponse("/web/view/")),
        Mount("/web", StaticFiles(directory=web, html=True)),
    ]
    handlers = {HTTPException: _refuse, Exception: _fail}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), host, token)


def _responder(endpoint: Endpoint, service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return await endpoint.respond(endpoint.ask(service, request))

    return respond


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    log.error("%s: %s", request.url.path, error)
    return JSONResponse({"error": "something is wrong here: the server says what"}, 500)
