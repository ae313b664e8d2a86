"""No warnings for a while, in every thread or in none."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_hush = warnings.catch_warnings(action="ignore")
_inside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings inside the block.

    Filters are the process's own. `warnings.catch_warnings` in two threads at once can leave them changed
    for good; here the first thread to come in hushes, and the last one to leave puts all back.
    """
    global _hush, _inside  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _hush = warnings.catch_warnings(action="ignore")
            _hush.__enter__()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _hush.__exit__(None, None, None)
