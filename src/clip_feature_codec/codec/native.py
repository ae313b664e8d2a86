"""The loops of the codec in C: where their library is, and how arrays get there.

Each lies beside the Python module of its name, ``semantic/trellis.c`` beside ``semantic/trellis.py``, and is
called by that alone. hatch_build.py compiles all of them at installation, for each level of processors; the
first use chooses the best that this one can run. All levels give the same bytes. They run without Python's
lock, so that threads can work on rows of a batch.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import BuildError

Ints: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_PATH = Path(__file__).with_name(f"libloops{_SUFFIX}")  # for every processor

# What each function gives and takes: an int64, a bool or nothing; addresses (a) and int64s (i).
_SIGNATURES: dict[str, tuple[type[Any] | None, str]] = {
    "loops_sources": (ctypes.c_char_p, ""),
    "loops_level": (ctypes.c_int64, ""),
    "arithmetic_encode": (ctypes.c_int64, "aia"),
    "arithmetic_decode": (ctypes.c_bool, "aiaia"),
    "coarse_scan": (ctypes.c_int64, "aiiiaa"),
    "coarse_products": (None, "aiaiaa"),
    "near_pairs": (ctypes.c_int64, "aaaaiiiiaai"),
    "semantic_search_size": (ctypes.c_int64, "i"),
    "semantic_code_size": (ctypes.c_int64, "i"),
    "semantic_fill_gains": (ctypes.c_int64, "aiaa"),
    "semantic_quantise": (None, "aaaiiaaaa"),
    "semantic_addresses": (None, "aaaiaaa"),
    "semantic_code": (None, "aiaaaaaaiaaa"),
    "semantic_write": (None, "aiiaaaaaaiaa"),
    "semantic_foretell": (None, "aiiaaa"),
    "semantic_decode": (ctypes.c_int64, "aaiiaaaaaa"),
    "layout_search_size": (ctypes.c_int64, "i"),
    "layout_walk_size": (ctypes.c_int64, "i"),
    "layout_quantise": (None, "aiiaaaaaa"),
    "layout_read": (ctypes.c_bool, "aiiaaaaa"),
    "layout_code_size": (ctypes.c_int64, "i"),
    "layout_code": (None, "aiaaaaaaiaa"),
    "layout_addresses": (ctypes.c_int64, "aiaaaaaa"),
}


@cache
def loops() -> ctypes.CDLL:
    """The library, for processors such as this one where there is one.

    Raises:
        BuildError: it is not there, or is none for this machine or this version.
    """
    library = opened(_PATH)
    fast = _PATH.with_suffix(f".v{library.loops_level()}{_SUFFIX}")
    return opened(fast) if fast.exists() else library


def opened(path: Path) -> ctypes.CDLL:
    """The library at a path.

    Raises:
        BuildError: as for `loops`.
    """
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, takes) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype = result
            function.argtypes = [ctypes.c_void_p if kind == "a" else ctypes.c_int64 for kind in takes]
    except (OSError, AttributeError):
        found = "another one" if path.exists() else "none"
        how = "pip install --editable . (or python hatch_build.py) in the checkout"
        raise BuildError(f"compiled loops: found {found} at {path}, expected ours; type: {how}") from None
    return library


def address(array: NDArray[Any], dtype: type[np.generic], *shape: int) -> int:
    """Where a loop finds an array, which has to outlive the call.

    Raises:
        ValueError: it is of another kind or shape, or does not lie in one piece.
    """
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        pieces = "" if array.flags.c_contiguous else " in pieces"
        expected = f"{np.dtype(dtype)} {shape} in one piece"
        raise ValueError(f"array: found {array.dtype} {array.shape}{pieces}, expected {expected}")
    where: int = array.__array_interface__["data"][0]
    return where


def place(array: NDArray[Any], dtype: type[np.generic], *shape: int) -> int:
    """`address` of an array that a loop writes to.

    Raises:
        ValueError: as there; or it must not be written to.
    """
    if not array.flags.writeable:
        raise ValueError("array: found one that is read-only, expected one to write to")
    return address(array, dtype, *shape)


def memory(work: Ints, size: int) -> int:
    """`place` of a loop's memory, of ``size`` int64s or more.

    Raises:
        ValueError: as there; or it is too small.
    """
    if work.size < size:
        raise ValueError(f"memory: found {work.size} numbers, expected {size} or more")
    return place(work, np.int64, work.size)


def record(*words: int) -> Any:
    """A C structure of addresses and of integers as wide as those; it has to outlive the call, too."""
    return (ctypes.c_size_t * len(words))(*words)
