"""The bodies of requests: of limited size and time, and of limited memory for all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from clip_feature_codec.serve.batching import CLIENT_GONE
from clip_feature_codec.serve.refusals import Refusal, busy


@dataclass
class Uploads:
    """Reads bodies.

    Attributes:
        most_bytes: of one of them.
        seconds: that sending one may take.
        held_bytes: of all that are being read or worked on; who comes then is sent away.
    """

    most_bytes: int
    seconds: float
    held_bytes: int
    _held: int = field(default=0, init=False)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, for as long as the block lasts.

        Raises:
            Refusal: it is empty or too large, it takes too long, or there are too many.
        """
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self.most_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        taken = 0
        try:
            async with asyncio.timeout(self.seconds):
                async for part in request.stream():
                    taken += len(part)
                    self._held += len(part)
                    if taken > self.most_bytes:
                        raise self._too_large()
                    if self._held > self.held_bytes:
                        raise busy()
                    parts.append(part)
            if not taken:
                raise Refusal(400, "the body: found none, expected a file")
            yield b"".join(parts)
        except TimeoutError:
            raise Refusal(408, f"the body: not there after {self.seconds:g} seconds") from None
        except ClientDisconnect:
            raise Refusal(CLIENT_GONE, "the client has gone") from None
        finally:
            self._held -= taken

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body: found more than the {self.most_bytes:,} bytes that are allowed")
