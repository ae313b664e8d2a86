"""The names of a classifier's classes, and the class that a name means."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from clip_feature_codec.errors import ModelError

BACKGROUND = "background"
"""What the first of 1001 classes is called where 1000 are of things."""


class Labels:
    """A line for each class of a classifier, with synonyms behind commas.

    Attributes:
        names: as they are written, in the order of the classes; a first line ``background`` is left out.
        with_background: whether there was one.
    """

    def __init__(self, lines: list[str]) -> None:
        self.with_background = bool(lines) and _plain(lines[0]) == BACKGROUND
        self.names = lines[1:] if self.with_background else lines
        self._classes: dict[str, set[int]] = defaultdict(set)
        for i, line in enumerate(self.names):
            for synonym in _synonyms(line):
                self._classes[synonym].add(i)

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Read a file of labels: UTF-8 text.

        Raises:
            ModelError: it cannot be read as text, or is empty.
        """
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ModelError(f"{path}: no file of labels: it must be text, a class on each line") from None
        while lines and not lines[-1].strip():
            lines.pop()
        if not lines:
            raise ModelError(f"{path}: no file of labels: there is nothing in it")
        return cls(lines)

    def __len__(self) -> int:
        return len(self.names)

    def classes_of(self, name: str) -> frozenset[int]:
        """The classes that a name means, itself one or more synonyms behind commas.

        Letter case does not count, and an underscore is a space. Of classes that share synonyms with the
        name those that share the most are meant: ``crane`` alone means the bird and the machine.
        """
        shared: dict[int, int] = defaultdict(int)
        for synonym in _synonyms(name):
            for each in self._classes.get(synonym, ()):
                shared[each] += 1
        most = max(shared.values(), default=0)
        return frozenset(each for each, count in shared.items() if count == most)


def _synonyms(text: str) -> set[str]:
    return {plain for part in text.split(",") if (plain := _plain(part))}


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").lower().split())
