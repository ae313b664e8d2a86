from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from clip_feature_codec.lazy import lazy


class Slow:
    """Counts how often its parts are made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.fails = 0

    @lazy
    def part(self) -> object:
        """A part."""
        self.made.append("part")
        time.sleep(0.05)
        return ["a part"]

    @lazy
    def whole(self) -> list[object]:
        self.made.append("whole")
        return [self.part]

    @lazy
    def brittle(self) -> str:
        self.fails += 1
        if self.fails < 3:
            raise OSError("not yet")
        return "there"


def test_threads_that_ask_at_once_get_the_one_that_is_made_once():
    """Fault 16: `cached_property` has no lock on Python 3.12 and later."""
    slow, together = Slow(), threading.Barrier(8)

    def ask(_: int) -> object:
        together.wait()
        return slow.part

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert slow.made == ["part"]
    assert all(part is found[0] for part in found)


def test_each_object_has_its_own_and_one_part_may_need_another():
    first, second = Slow(), Slow()
    assert first.whole == [["a part"]]
    assert first.whole is first.whole
    assert first.part is not second.part
    assert first.made == ["whole", "part"]


def test_what_could_not_be_made_is_tried_again():
    slow = Slow()
    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            _ = slow.brittle
    assert slow.brittle == slow.brittle == "there"
    assert slow.fails == 3


def test_an_object_can_be_pickled_after_its_first_use():
    slow = Slow()
    assert pickle.loads(pickle.dumps(slow)).part == slow.part
    again = pickle.loads(pickle.dumps(slow))
    assert (again.part, again.made) == (["a part"], ["part"])


def test_the_class_shows_what_it_is():
    assert Slow.part.__doc__ == "A part."
