"""What a piece of work costs: time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = b"5"
"""Linux: what makes the kernel begin anew with the peak of the resident memory (proc(5), clear_refs)."""


@dataclass(frozen=True)
class Cost:
    """What a call took.

    Attributes:
        ms: wall-clock time in milliseconds.
        mb: peak of the process's resident memory meanwhile, in MB (10^6 bytes), with all that lay there
            before: allocators keep what was freed, so that a difference would show nothing. None where the
            system does not tell (other than Linux).
    """

    ms: float
    mb: float | None

    def shared_by(self, count: int) -> Cost:
        """The share of each of ``count`` pictures in the time; the memory is needed whole."""
        return Cost(self.ms / count, self.mb)


def measure(work: Callable[[], T]) -> tuple[T, Cost]:
    """Call ``work`` and say what it cost."""
    told = _reset_peak()
    begun = time.perf_counter()
    result = work()
    ms = 1000 * (time.perf_counter() - begun)
    return result, Cost(ms, _peak_mb() if told else None)


def _reset_peak() -> bool:
    try:
        _RESET.write_bytes(_RESET_PEAK)
    except OSError:
        return False
    return True


def _peak_mb() -> float | None:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return 1024 * int(value.split()[0]) / 1e6
    return None
