"""Work on all cores, its results in order: in threads, since the loops that take the time let others run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from clip_feature_codec.devices import usable_cores

T = TypeVar("T")
R = TypeVar("R")

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
