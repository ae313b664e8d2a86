"""The decorator of loops that numba compiles. Importing this takes half a second: do it where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function of integers at its first call, and keep the result beside its module.

    Where no folder can be written it is compiled anew by each process. With the environment variable
    NUMBA_DISABLE_JIT=1 it stays Python: the same results, slowly.
    """
    try:
        return cast(_Function, njit(cache=True)(function))
    except RuntimeError:  # numba finds no place for its cache
        return cast(_Function, njit(function))
