"""Refusing outputs that would cost somebody a file, or cannot be written, before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clip_feature_codec.errors import OutputError, advice, reason
from clip_feature_codec.files import STDIO, try_writing
from clip_feature_codec.outputs.kinds import ENDINGS_OF, FileKind, FolderKind
from clip_feature_codec.outputs.stores import sources_of, store_of

_REMEDY = "name another one, move this away, or use --force"

_Id = tuple[int, int]


class Output(NamedTuple):
    """A path that is to be written, and what it becomes.

    Attributes:
        path: its name.
        kind: what it becomes.
        as_folder: it was given with a slash at its end, and so as a folder.
    """

    path: Path
    kind: FileKind | FolderKind
    as_folder: bool = False


def check_outputs(outputs: Sequence[Output], inputs: Sequence[Path], *, force: bool = False) -> None:
    """Refuse outputs that would replace what this program could not make again, or cannot be written.

    A file that is there is replaced only when this program wrote it, and it is neither an input nor a picture
    that a store among the inputs was made from. Files are compared by what they are, not by their names. The
    folders are tried by writing to them. Nothing is left behind.

    Args:
        outputs: everything that will be written; none of it need exist.
        inputs: every file and folder that is read; those that do not exist are passed over.
        force: replace files all the same. Names that mean something else are refused nevertheless.

    Raises:
        OutputError: an output is refused.
    """
    for output in outputs:
        _check_name(output)
    _check_distinct(outputs, inputs)
    if not force:
        _check_folders(outputs)
        _check_files([file for output in outputs for file in _files(output, inputs)], inputs)
    for output in outputs:
        if output.path != STDIO:
            _check_writable(output)


def _check_name(output: Output) -> None:
    """Refuse a name that says something else than what will be there."""
    path, kind = output.path, output.kind
    if path == STDIO:
        if isinstance(kind, FolderKind):
            raise OutputError(f"standard output takes one file, and this is {kind.what}: name a folder")
        if not kind.piped:
            raise OutputError(f"{kind.what} does not go to standard output: name a file")
        return
    for above in path.parents:
        if above.exists() and not above.is_dir():
            raise OutputError(f"{path}: {above} is a file, not a folder")
    if isinstance(kind, FolderKind):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file; what is written here is {kind.what}")
    elif path.is_dir() or output.as_folder:
        raise OutputError(f"{path} is a folder; what is written here is {kind.what}: name a file")
    if not path.is_dir():
        _check_ending(path, kind)


def _check_ending(path: Path, kind: FileKind | FolderKind) -> None:
    ending = path.name[path.name.rfind(".") :].lower() if "." in path.name else ""
    own = sorted(kind.endings()) if isinstance(kind, FileKind) else []
    if ending in own:
        return
    if isinstance(kind, FileKind) and kind.must_end:
        raise OutputError(
            f"{path}: what is written here is {kind.what}: its name must end in {' '.join(own)}"
        )
    for what, endings in ENDINGS_OF:
        if ending in endings():
            remedy = f"use {own[0]}" if own else "leave it out"
            names = f"names in {ending} are those of {what}"
            raise OutputError(f"{path}: {names}; what is written here is {kind.what}: {remedy}")


def _files(output: Output, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    """Every file that an output becomes."""
    if isinstance(output.kind, FolderKind):
        yield from output.kind.files(output.path, inputs)
    else:
        yield output.path, output.kind


def _check_distinct(outputs: Sequence[Output], inputs: Sequence[Path]) -> None:
    """Refuse two outputs of one name."""
    if len(outputs) < 2:  # names in a store are distinct, and there may be a million of them
        return
    seen: dict[Path, FileKind] = {}
    for output in outputs:
        own = {path.resolve(): kind for path, kind in _files(output, inputs) if path != STDIO}
        for path in own.keys() & seen.keys():
            if not path.is_char_device():
                raise OutputError(
                    f"{path}: {seen[path].what} and {own[path].what} are both written here: name another one"
                )
        seen |= own
    if [output.path for output in outputs].count(STDIO) > 1:
        raise OutputError("only one result can go to standard output: name a file for the other")


def _check_folders(outputs: Sequence[Output]) -> None:
    """Refuse folders of other things."""
    for output in outputs:
        if isinstance(output.kind, FolderKind) and (names := output.kind.foreign(output.path)):
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            things = f"there are other things in this folder ({names[0]}{more})"
            raise OutputError(f"{output.path}: {things}, and this is {output.kind.what}: {_REMEDY}")


def _check_files(files: Iterable[tuple[Path, FileKind]], inputs: Sequence[Path]) -> None:
    """Refuse to replace inputs, pictures that stores were made from, and what others wrote."""
    there = [(path, kind) for path, kind in files if kind.replaced and path != STDIO and path.exists()]
    if not there:
        return
    read = {_identity(path): path for path in inputs if path.is_file()}
    pictures = _pictures_of(inputs)
    for path, kind in there:
        identity = _identity(path)
        if identity in read:
            why = f"this is {read[identity]}, which is read by the same command"
        elif identity in pictures:
            why = f"the store {pictures[identity]} was made from this picture"
        elif path.is_fifo() or path.is_char_device() or not path.stat().st_size:
            continue  # nothing to lose
        else:
            why = _reason_to_keep(path, kind)
        if why:
            raise OutputError(f"{path}: not replaced, since {why}: {_REMEDY}")


def _reason_to_keep(path: Path, kind: FileKind) -> str:
    if not path.is_file():
        return "it is no regular file"
    try:
        return kind.keep(path)
    except OSError as error:
        return f"it cannot be read ({reason(error)})"


def _pictures_of(inputs: Iterable[Path]) -> dict[_Id, Path]:
    """The pictures that stores were made from, each with its store, of all stores that are read from."""
    found = {store_of(path) for path in inputs if path != STDIO} - {None}
    return {identity: store for store in found if store for identity in _identities(sources_of(store))}


def _identity(path: Path) -> _Id:
    """What tells whether two names are those of one file, as `os.path.samefile` compares."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _identities(paths: Iterable[Path]) -> Iterator[_Id]:
    for path in paths:
        try:
            yield _identity(path)
        except OSError:  # moved or deleted
            continue


def _check_writable(output: Output) -> None:
    """Write a little where the output will be, and remove it again."""
    inside = isinstance(output.kind, FolderKind)
    try:
        try_writing(output.path / "file" if inside else output.path)
    except OSError as error:
        raise OutputError(
            f"{output.path}: cannot be written: {reason(error)}: {advice(error) or 'name another place'}"
        ) from error
