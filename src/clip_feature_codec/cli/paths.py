"""The types of options that name files and folders: those that are read, and those that are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.names import ADDED, is_hub_name
from clip_feature_codec.outputs import FileKind, FolderKind
from clip_feature_codec.packs import pack_folder
from clip_feature_codec.places import is_url

IN_PATH = click.Path(exists=True, allow_dash=True, path_type=Path)
IN_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
IN_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NAMED_PATH = click.Path(exists=True, path_type=Path)
NAMED_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""Those without ``-`` for standard input."""


class NamedOrOnHub(click.Path):
    """A file or folder that is there, or the name of a pack, here or on a hub; perhaps with ``+`` more."""

    def __init__(self) -> None:
        super().__init__(exists=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a name; what is neither here nor can be a hub's is refused."""
        text = os.fspath(value)
        main = text if Path(text).exists() else text.partition(ADDED)[0]
        if not (pack_folder(main) or is_hub_name(main)):
            super().convert(main, param, ctx)
        return text


def absolute(name: str | None) -> str | None:
    """A file or folder that is there by its whole path, for processes in other folders; other names as is."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def absolute_source(name: str) -> str:
    """A source for processes in other folders (see `open_source`)."""
    return name if is_url(name) else str(Path.cwd() / name)


class SourceName(click.Path):
    """A file or folder that is there, or archives and places elsewhere, as `open_source` takes them."""

    def __init__(self) -> None:
        super().__init__(exists=True, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a name; whether archives and what is elsewhere are there is found out when they are listed."""
        from clip_feature_codec.sources.patterns import is_source

        return os.fspath(value if is_source(os.fspath(value)) else super().convert(value, param, ctx))


_SLASHES = tuple(filter(None, (os.sep, os.altsep)))
WITH_SLASH = "outputs with a slash"
"""The key in `click.Context.meta` of outputs that were said to be folders by a slash at their end."""


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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a name; an empty one, and an option that took its place, are refused."""
        text = os.fspath(value)
        if not text or (text.startswith("-") and text != "-"):
            here = f"./{text} names such a file" if text else "- is standard output"
            self.fail(f"expected a name, found {text!r} ({here})", param, ctx)
        if ctx and text.endswith(_SLASHES):
            ctx.meta.setdefault(WITH_SLASH, set()).add(Path(text))
        return super().convert(value, param, ctx)

    def kind(self, params: Mapping[str, Any]) -> FileKind | FolderKind:
        """Give the kind that the path becomes, by the values of all parameters."""
        if len(self._kinds) == 1:
            return self._kinds[0]
        from clip_feature_codec.sources.patterns import is_source

        source: str | Path | None = params[self._by]
        chosen = FolderKind if source is None or is_source(str(source)) else FileKind
        return next(kind for kind in self._kinds if isinstance(kind, chosen))
