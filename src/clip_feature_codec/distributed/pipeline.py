"""Stages of work that values go through on a cluster, and come back from in order.

Ray Data runs them: it decides which process takes what, holds values back where the next stage is slower,
does again elsewhere what was lost with a process or a machine, and joins stages that want the same cores. A
value travels as a row, with its place, since rows come back as they are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from clip_feature_codec.errors import ClusterError, CodecError, reason

Row = dict[str, Any]
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Stage:
    """A function that values go through.

    Attributes:
        make: gives the function; called in each process that takes part, once. Both can be pickled.
        cores, gpus: what each of these processes has to itself; a GPU may be shared, as 0.5.
    """

    make: Callable[[], Function]
    cores: float = 1.0
    gpus: float = 0.0


def run(
    items: Sequence[Any],
    *stages: Stage,
    spread: Callable[[Any], Iterable[Any]] | None = None,
    finish: Function | None = None,
) -> Iterator[Any]:
    """What items become, in order, on the cluster that is connected.

    Ray begins work again whose process has died, without end: the functions see to it that no value kills
    every one (see `encode.attempts`).

    Args:
        items: small values.
        stages: what each value goes through, in processes that stay.
        spread: makes values of an item, one at least, before the first stage, where there is a core.
        finish: what each value goes through last, where there is a core.

    Raises:
        CodecError: one of the functions has raised it.
        ClusterError: there are too few cores, or the work cannot be done there.
    """
    import ray.data

    needed = max(stage.cores for stage in stages) + (finish is not None or spread is not None)
    if (cores := ray.cluster_resources().get("CPU", 0)) < needed:
        raise ClusterError(f"Ray cluster: found {cores:g} cores, expected at least {needed:g}")
    rows = [{"item": number, "step": 0, "last": True, "value": item} for number, item in enumerate(items)]
    if not rows:
        return iter(())
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    if spread:
        data = data.flat_map(_Spread(spread))
    for stage in stages:
        data = data.map(
            _Apply,
            fn_constructor_args=(stage.make,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=None),
            num_cpus=stage.cores,
            num_gpus=stage.gpus or None,
        )
    if finish:
        data = data.map(_Finish(finish))
    return _in_order(data.iter_rows(), len(items))


def _in_order(rows: Iterable[Row], count: int) -> Iterator[Any]:
    """The values of rows of so many items by their places; those that come early wait."""
    import ray.exceptions

    early: dict[tuple[int, int], Row] = {}
    place = (0, 0)
    try:
        for row in rows:
            early[row["item"], row["step"]] = row
            while place in early:
                now = early.pop(place)
                if isinstance(now["value"], _Failure):
                    raise now["value"].error
                place = (place[0] + 1, 0) if now["last"] else (place[0], place[1] + 1)
                yield now["value"]
    except ray.exceptions.RayTaskError:  # a fault of ours, and where it is
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Ray cluster: {reason(error)}") from error
    if place != (count, 0):
        raise ClusterError(f"Ray cluster: {count - place[0]} of {count} pieces of work did not come back")


@dataclass(frozen=True)
class _Failure:
    """An error on its way to whoever asked for the work, in place of a value: Ray would tell it as text."""

    error: CodecError | OSError


def _attempt(function: Function, value: Any) -> Any:
    try:
        return value if isinstance(value, _Failure) else function(value)
    except (CodecError, OSError) as error:
        return _Failure(error)


class _Spread:
    """Rows with the values of an item, and their places."""

    def __init__(self, spread: Callable[[Any], Iterable[Any]]) -> None:
        self._spread = spread

    def __call__(self, row: Row) -> Iterator[Row]:
        values = iter(self._spread(row["value"]))
        end = object()
        value, step = _attempt(partial(next, values), end), 0
        while value is not end:
            following = end if isinstance(value, _Failure) else _attempt(partial(next, values), end)
            yield row | {"step": step, "last": following is end, "value": value}
            value, step = following, step + 1


class _Finish:
    """Rows with other values."""

    def __init__(self, function: Function) -> None:
        self._function = function

    def __call__(self, row: Row) -> Row:
        return row | {"value": _attempt(self._function, row["value"])}


class _Apply:
    """A stage, in one of its processes."""

    def __init__(self, make: Callable[[], Function]) -> None:
        self._function = _attempt(lambda _: make(), None)

    def __call__(self, row: Row) -> Row:
        function = self._function
        return row | {
            "value": function if isinstance(function, _Failure) else _attempt(function, row["value"])
        }
