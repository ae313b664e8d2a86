"""Listening, and serving until somebody says stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from clip_feature_codec.errors import ConfigError

_HEAD_SECONDS = 10.0
_READ_SECONDS = 60.0
_IDLE_SECONDS = 15
_END_SECONDS = 3
_CONNECTIONS = 256
_BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """Begin to listen.

    Args:
        host: a name or an address.
        port: 0: any that is free.

    Raises:
        ConfigError: the port is in use, or there is no such address here.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use: name another one, or --port 0") from None
        raise ConfigError(f"port {port} of {host}: cannot listen: {error.strerror}") from None


def is_loopback(listener: socket.socket) -> bool:
    """Whether no other machine can reach a listener."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def address_of(listener: socket.socket) -> str:
    """Where a browser finds what listens, such as ``http://127.0.0.1:8140/``."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = _own_address()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _own_address() -> str:
    """This machine's address in its network, or its name where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the way (RFC 5737)
            address: str = probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
        return address


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until the process is interrupted; requests that are under way have a few seconds to end.

    Raises:
        KeyboardInterrupt: it was.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what clients do wrong is theirs to know
    config = uvicorn.Config(
        app,
        http=PunctualProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


class PunctualProtocol(H11Protocol):
    """HTTP for clients that send a request's head within some seconds, and read; others are hung up on.

    uvicorn itself waits for either forever, so that a few idle connections would keep everybody else out.
    """

    _hangs_up: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once the head is there; begin again with the next one."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._stop_watching()
        self._reads()

    def pause_writing(self) -> None:
        """Hang up on who reads nothing for a while."""
        super().pause_writing()
        self._stalled = self.loop.call_later(_READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it reads."""
        super().resume_writing()
        self._reads()

    def _reads(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._hangs_up is None:
            self._hangs_up = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._hangs_up is not None:
            self._hangs_up.cancel()
            self._hangs_up = None
