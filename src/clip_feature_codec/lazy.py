"""What is made at its first use, and only once."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801  # it is used like `property`
    """A read-only attribute that is computed at its first use: once, whichever threads ask for it.

    `functools.cached_property` has had no lock since Python 3.12: two threads would each load a model. Here
    the second waits for the first. Should computing fail, the next to ask tries again.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self._lock_name = f"_lock_of_{self._name}"
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # Once the value is among these, it is found there, and this is not called any more.
        values = vars(instance)
        with values.setdefault(self._lock_name, RLock()):
            if self._name not in values:
                values[self._name] = self._compute(instance)
        values.pop(self._lock_name, None)  # a lock cannot be pickled
        value: T = values[self._name]
        return value
