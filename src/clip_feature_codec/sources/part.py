"""What the parts of archives have in common."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from clip_feature_codec.sources.storage import StoredFile


@dataclass(frozen=True)
class ArchivePart:
    """An archive of pictures, or a part of one (see `protocol.Part`).

    Attributes:
        file: the archive.
        name: what it is called inside the source, without its ending; its pictures' names begin with it.
    """

    file: StoredFile
    name: str

    @property
    def key(self) -> str:
        """The archive's place."""
        return self.file.place

    @property
    def state(self) -> str:
        """Its size and time."""
        return f"{self.file.bytes} {self.file.mtime_ns}"

    @property
    def count(self) -> None:
        """Nobody knows before it has been read."""
        return


def normal(name: str) -> str:
    """A name in the one form (NFC) that a file system may take two forms of it for."""
    return unicodedata.normalize("NFC", name)
