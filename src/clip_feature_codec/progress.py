"""How far a long piece of work is, told to whoever asked to know."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with 0 done at the beginning of a stage (or what an earlier run has done), then as more is."""

    def __call__(self, stage: str, done: int, total: int, failed: int = 0, /) -> None:
        """Take notice.

        Args:
            stage: one word for what is being done, such as ``encoding``.
            done: how many pictures (or steps) are done with, failed ones included.
            total: how many there are; of what has no length, such as a generator, what is done so far.
            failed: how many of those that are done with have failed, where that is known.
        """


def silent(stage: str, done: int, total: int, failed: int = 0, /) -> None:
    """Tell nobody: the `Progress` of work whose caller does not ask."""
