"""Who may ask, from where, and what browsers may do with the answers."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ONLY_OURS = (
    "default-src 'none'; script-src 'self'{scripts}; worker-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_POLICY = _ONLY_OURS.format(scripts="")
_WEB_POLICY = _ONLY_OURS.format(scripts=" 'wasm-unsafe-eval'")
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Stands before an application.

    - ``Host`` must be an address or a name of this machine, where there is no token: a page elsewhere whose
      name is suddenly ours (DNS rebinding) has another one. The token it does not have, either; and a proxy
      in front may be called as it likes.
    - What another site's page makes a browser ask for is refused, but for opening a page of ours.
    - Where there is a token, nothing under ``/api/`` is answered without it. It travels in ``Authorization``,
      which no browser sends by itself.

    Args:
        app: the application.
        host: the name or address that it listens at.
        token: what clients must know; None: nothing.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app, self._token = app, token
        machine = socket.gethostname().lower()
        self._names = {"localhost", machine, f"{machine}.local", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["Content-Security-Policy"] = _policy(scope["path"])
                headers["Cache-Control"] = "no-store" if _is_data(scope["path"]) else "no-cache"
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._token is None and not self._is_ours(headers.get("host", "")):
            return _refused(421, "Host: found a name that is not this machine's")
        if _is_foreign(headers, scope):
            return _refused(403, "Origin: found another site's page, expected one of ours")
        if (
            self._token is not None
            and _is_data(scope["path"])
            and not self._knows(headers.get("authorization", ""))
        ):
            refusal = _refused(401, "Authorization: expected Bearer and the token that the server printed")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a ``Host`` is one of ours: no DNS can say that an address is another one."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            ipaddress.ip_address(name)
        except ValueError:
            name = host.rpartition(":")[0] if ":" in host else host
            return name.lower().removesuffix(".") in self._names
        return True

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        expected = (self._token or "").encode()
        return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), expected)


def _is_foreign(headers: Headers, scope: Scope) -> bool:
    """Whether a page of another site lets a browser ask: by what browsers say of themselves."""
    site = headers.get("sec-fetch-site")
    opens = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if site in ("cross-site", "same-site") and (_is_data(scope["path"]) or not opens):
        return True
    origin = headers.get("origin")
    return site is None and origin is not None and urlsplit(origin).netloc != headers.get("host")


def _is_data(path: str) -> bool:
    return path.startswith("/api/")


def _policy(path: str) -> str:
    if _is_data(path):
        return _DATA_POLICY
    return _WEB_POLICY if path.startswith("/web/") else _PAGE_POLICY


def _refused(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": line}, status)
