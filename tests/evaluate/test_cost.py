"""What work costs: its time, and the process's memory."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from clip_feature_codec.evaluate.cost import Cost, measure


def test_the_result_and_the_time_are_those_of_the_work():
    result, cost = measure(lambda: time.sleep(0.05) or "done")
    assert result == "done"
    assert 50 <= cost.ms < 5000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak")
def test_memory_that_was_freed_again_is_in_the_peak_of_its_own_call_only():
    _, before = measure(lambda: None)
    _, large = measure(lambda: float(np.ones(40_000_000).sum()))  # 320 MB
    _, after = measure(lambda: None)
    assert before.mb is not None
    assert large.mb is not None
    assert after.mb is not None
    assert large.mb > before.mb + 250
    assert after.mb < large.mb - 250


def test_pictures_of_a_batch_share_the_time_but_not_the_memory():
    assert Cost(80.0, 500.0).shared_by(4) == Cost(20.0, 500.0)


def test_an_error_is_the_caller_s():
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0)
