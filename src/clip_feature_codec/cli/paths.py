"""The types of options that name files and folders: those that are read, and those that are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.outputs import FileKind, FolderKind

IN_PATH = click.Path(exists=True, allow_dash=True, path_type=Path)
IN_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
IN_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NAMED_PATH = click.Path(exists=True, path_type=Path)
NAMED_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""Those without ``-`` for standard input."""


class OutputPath(click.Path):
    """A path that a command writes to; `Command` checks it by the kind of file or folder that it becomes.

    Args:
        kinds: the kind that it becomes; or a kind of file and a kind of folder.
        by: of two kinds, the parameter that decides: where that is a file, this becomes one, too.
        exists: it is read as well.
    """

    def __init__(self, *kinds: FileKind | FolderKind, by: str = "", exists: bool = False) -> None:
        super().__init__(
            exists=exists,
            file_okay=any(isinstance(kind, FileKind) for kind in kinds),
            dir_okay=any(isinstance(kind, FolderKind) for kind in kinds),
            allow_dash=True,
            path_type=Path,
        )
        self._kinds, self._by = kinds, by

    def kind(self, params: Mapping[str, Any]) -> FileKind | FolderKind:
        """Give the kind that the path becomes, by the values of all parameters."""
        if len(self._kinds) == 1:
            return self._kinds[0]
        source: Path | None = params[self._by]
        chosen = FolderKind if source is None or source.is_dir() else FileKind
        return next(kind for kind in self._kinds if isinstance(kind, chosen))
