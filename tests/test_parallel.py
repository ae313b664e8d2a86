"""Work on all cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from clip_feature_codec import parallel
from clip_feature_codec.parallel import in_order


def test_results_come_in_order_and_few_are_in_work_at_a_time() -> None:
    taken: list[int] = []
    gate = threading.Event()

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    def work(item: int) -> int:
        gate.wait(10)
        return item * item

    results = in_order(work, items(), workers=2)
    threading.Timer(0.2, gate.set).start()
    assert next(results) == 0
    assert len(taken) == 5
    assert list(results) == [item * item for item in range(1, 20)]


def test_what_is_raised_in_a_thread_is_raised_here() -> None:
    results = in_order(lambda item: 1 / item, [2, 1, 0, 1])
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_work_inside_of_work_does_not_spread_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 3)
    assert parallel.free_cores() == 3
    assert list(in_order(lambda _: parallel.free_cores(), range(5))) == [1] * 5
    assert parallel.free_cores() == 3
