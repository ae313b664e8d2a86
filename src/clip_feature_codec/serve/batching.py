"""Requests that come at the same time are worked on together, one batch after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

from clip_feature_codec.errors import CodecError
from clip_feature_codec.serve.refusals import Refusal, busy

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

CLIENT_GONE = 499
"""What is noted of a request whose client did not wait for the answer; it is never seen."""


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[K, T, R]):
    key: K
    item: T
    result: asyncio.Future[R]


class Batcher(Generic[K, T, R]):
    """Calls a function in a thread of its own with whatever has come while it was last running.

    Nobody waits for others to come: the first of a quiet hour is worked on at once, alone. An item whose
    result nobody waits for any longer is left out. Used from one event loop.

    Args:
        function: of a key and items, gives a result for each, in order.
        most: items that it is given at a time.
        waiting: items that may wait; who comes then is sent away.
    """

    def __init__(self, function: Callable[[K, list[T]], list[R]], most: int, waiting: int) -> None:
        self._function, self._most, self._capacity = function, most, waiting
        self._queue: list[_Waiting[K, T, R]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, key: K, item: T) -> R:
        """The function's result for an item.

        Args:
            key: what an item shares with those that it can be worked on with.
            item: the item.

        Raises:
            Refusal: too many are waiting.
        """
        if len(self._queue) >= self._capacity:
            raise busy()
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(key, item, result))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await result

    async def _work(self) -> None:
        while batch := self._next():
            await self._run(batch)

    def _next(self) -> list[_Waiting[K, T, R]]:
        """Take those out of the queue that go with the first."""
        self._queue = [one for one in self._queue if not one.result.done()]
        batch = [one for one in self._queue if one.key == self._queue[0].key][: self._most]
        self._queue = [one for one in self._queue if one not in batch]
        return batch

    async def _run(self, batch: list[_Waiting[K, T, R]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(
                self._thread, self._function, batch[0].key, [one.item for one in batch]
            )
            pairs = list(zip(batch, results, strict=True))
        except CodecError as error:
            if len(batch) > 1:  # what is wrong with one is not to be the others' harm
                for one in batch:
                    await self._run([one])
                return
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001  # it is raised where the result is waited for
            self._fail(batch, error)
        else:
            for one, result in pairs:
                if not one.result.done():
                    one.result.set_result(result)

    def _fail(self, batch: list[_Waiting[K, T, R]], error: Exception) -> None:
        for one in batch:
            if not one.result.done():
                one.result.set_exception(error)


async def unless_gone(request: Request, work: Awaitable[R]) -> R:
    """Wait for a result as long as the client does; what nobody waits for is cancelled.

    Raises:
        Refusal: the client has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Refusal(CLIENT_GONE, "the client has gone")
    finally:
        for one in (task, gone):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
