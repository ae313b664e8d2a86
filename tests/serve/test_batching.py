"""Batches, full queues, and what nobody waits for any longer."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from clip_feature_codec.errors import ImageError
from clip_feature_codec.serve.batching import Batcher
from clip_feature_codec.serve.refusals import Refusal


class Work:
    """Notes its batches, and holds up the first until it is let go."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.go_on = threading.Event()

    def __call__(self, key: str, items: list[int]) -> list[int]:
        self.batches.append((key, items))
        self.go_on.wait(10)
        if -1 in items:
            raise ImageError("no picture")
        return [10 * item for item in items]


async def ask_all(work: Work, batcher: Batcher[str, int, int], asked: list[tuple[str, int]]) -> list[object]:
    first = asyncio.create_task(batcher("a", 0))
    while not work.batches:
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(batcher(key, item)) for key, item in asked]
    await asyncio.sleep(0.01)
    work.go_on.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def test_what_comes_meanwhile_is_worked_on_together_by_key():
    work = Work()
    batcher = Batcher(work, most=3, waiting=10)
    asked = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("a", 5)]
    assert asyncio.run(ask_all(work, batcher, asked)) == [0, 10, 20, 30, 40, 50]
    assert work.batches == [("a", [0]), ("a", [1, 3, 4]), ("b", [2]), ("a", [5])]


def test_items_need_not_be_comparable():
    """As arrays are not: whether two are equal is an array, too."""

    def add(_: None, items: list[np.ndarray]) -> list[np.ndarray]:
        return [item + 1 for item in items]

    async def ask() -> list[np.ndarray]:
        batcher = Batcher(add, 2, 10)
        return await asyncio.wait_for(
            asyncio.gather(*(batcher(None, np.arange(3) + i) for i in range(5))), 10
        )

    assert [found.tolist() for found in asyncio.run(ask())] == [[i + 1, i + 2, i + 3] for i in range(5)]


def test_a_full_queue_sends_away_and_says_when_to_come_again():
    work = Work()
    results = asyncio.run(ask_all(work, Batcher(work, most=3, waiting=2), [("a", i) for i in (1, 2, 3)]))
    assert results[:3] == [0, 10, 20]
    assert isinstance(results[3], Refusal)
    assert results[3].status_code == 429
    assert int(results[3].headers["Retry-After"]) >= 1  # type: ignore[index]


def test_a_bad_one_does_the_others_no_harm():
    work = Work()
    results = asyncio.run(ask_all(work, Batcher(work, most=9, waiting=9), [("a", 1), ("a", -1), ("a", 2)]))
    assert [results[0], results[1], results[3]] == [0, 10, 20]
    assert isinstance(results[2], ImageError)


def test_what_nobody_waits_for_is_left_out():
    work = Work()
    batcher = Batcher(work, most=9, waiting=9)

    async def ask() -> int:
        first = asyncio.create_task(batcher("a", 0))
        while not work.batches:
            await asyncio.sleep(0.001)
        gone, stays = (asyncio.create_task(batcher("a", item)) for item in (1, 2))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        work.go_on.set()
        await first
        return await stays

    assert asyncio.run(ask()) == 20
    assert work.batches == [("a", [0]), ("a", [2])]


def test_an_error_of_another_kind_reaches_all_and_the_next_are_served():
    def fail(key: str, items: list[int]) -> list[int]:
        if key == "bad":
            raise RuntimeError("broken")
        return items

    async def ask() -> int:
        batcher = Batcher(fail, 4, 4)
        with pytest.raises(RuntimeError, match="broken"):
            await batcher("bad", 1)
        return await batcher("good", 2)

    assert asyncio.run(ask()) == 2
