"""Work on all cores, its results in order: in threads, since the loops that take the time let others run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from clip_feature_codec.devices import usable_cores

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

_LOOK = 0.1  # seconds between looks at whether anybody still wants what waits
_thread = threading.local()


def free_cores() -> int:
    """How many cores work may be spread over: one in a thread of `in_order`, beside others."""
    return 1 if getattr(_thread, "shares", False) else usable_cores()


def _share() -> None:
    """Say of a thread that it shares the cores with others."""
    _thread.shares = True


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """The results of a function, in the order of its items, of which a few are in work at a time.

    Args:
        function: called in other threads; whatever it raises is raised here.
        items: taken in this thread, at most two ahead for each worker; a result that is there comes first.
        workers: threads, by default one a core.
    """
    from concurrent.futures import ThreadPoolExecutor

    workers = workers or usable_cores()
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, initializer=_share) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                while under_way and (len(under_way) > 2 * workers or under_way[0].done()):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The same items, taken ahead in a thread of their own: for what waits for a disk or a network.

    Args:
        items: whatever taking them raises is raised here.
        count: how many may be ahead.
    """
    queue: Queue[tuple[bool, Any]] = Queue(count)
    over = Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not over.is_set():
            with suppress(Full):
                queue.put(entry, timeout=_LOOK)
                return

    def take() -> None:
        try:
            for item in items:
                put((True, item))
                if over.is_set():
                    break
            put((False, None))
        except BaseException as error:  # noqa: BLE001
            put((False, error))

    Thread(target=take, daemon=True).start()
    try:
        while True:
            more, item = queue.get()
            if not more:
                break
            yield item
        if item is not None:
            raise item
    finally:
        over.set()
