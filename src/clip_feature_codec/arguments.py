"""Arguments of the wrong kind, refused in one line that says what was found and what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from os import PathLike
from typing import TypeVar

from clip_feature_codec.errors import ConfigError

T = TypeVar("T")

_ALONE = (str, bytes, bytearray, memoryview, PathLike)
"""What Python can iterate over, or one might, and nobody means as a list."""


def describe(value: object) -> str:
    """A value in a few words: itself where it is short, else its type, and dtype and shape of an array."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    kind = type(value).__name__
    if isinstance(value, str):
        return f"{value[:40]!r} ({kind})"
    shape = getattr(value, "shape", None)
    return kind if shape is None else f"{kind} of {getattr(value, 'dtype', 'numbers')} {tuple(shape)}"


def require_whole(name: str, value: object) -> None:
    """Refuse what is no whole number; NumPy's are whole numbers, True is none.

    Raises:
        ConfigError: with ``name`` and what was found.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{name}: found {describe(value)}, expected a whole number")


def require_number(name: str, value: object) -> None:
    """Refuse what is no real number; NumPy's are, True is none.

    Raises:
        ConfigError: with ``name`` and what was found.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{name}: found {describe(value)}, expected a number")


def require_list(name: str, values: Iterable[T], expected: str) -> list[T]:
    """The values as a list; refused where one of them was given by itself.

    Args:
        name: of the argument.
        values: what was given for it.
        expected: what it should be, such as ``a list of streams``.

    Raises:
        ConfigError: with ``name``, what was found, and ``expected``.
    """
    if isinstance(values, _ALONE) or not isinstance(values, Iterable):
        raise ConfigError(f"{name}: found {describe(values)}, expected {expected}")
    return list(values)
