"""The decorators of loops that numba compiles. Importing this takes half a second: do it where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function of integers at its first call, and keep the result beside its module.

    Where no folder can be written it is compiled anew by each process. With the environment variable
    NUMBA_DISABLE_JIT=1 it stays Python: the same results, slowly. It runs without Python's lock, so that
    threads can work on rows of a batch.
    """
    try:
        return cast(_Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba finds no place for its cache
        return cast(_Function, njit(nogil=True)(function))


def inlined(function: _Function) -> _Function:
    """Compile a function into the compiled ones that call it.

    For what is done once a coefficient: a call with arrays costs as much as the work, since each counts its
    references.
    """
    return cast(_Function, njit(inline="always")(function))
