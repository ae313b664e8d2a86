"""How far a long piece of work is, told to whoever asked to know."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``: with 0 done at the beginning of a stage, then as more is done.

``stage`` is one word for what is being done, such as ``encoding``; ``done`` and ``total`` count its pictures
(or steps). Of what has no length, such as a generator, ``total`` is what is done so far. Work that takes no
``progress`` from its caller reports to `silent`.
"""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
