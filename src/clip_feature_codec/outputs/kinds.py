"""The kinds of files and folders that commands write, and what of each must not be replaced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clip_feature_codec.names import CODEC_FILE, DECODER_FILE, EXPORT_FILE, MANIFEST_FILES
from clip_feature_codec.outputs import marks, stores


class FileKind(NamedTuple):
    """A kind of file.

    Attributes:
        what: its name in a sentence, with an article.
        endings: what its names end in, in lower case, with the dot.
        keep: the reason why a file that is there must stay, or nothing: this program wrote it.
        must_end: a name must have one of the endings, since they choose the format; else it may have any but
            those of another kind.
        piped: ``-`` stands for standard output.
        replaced: by what is written; else a file that is there is gone on with.
    """

    what: str
    endings: Callable[[], Collection[str]]
    keep: Callable[[Path], str]
    must_end: bool = False
    piped: bool = False
    replaced: bool = True


class FolderKind(NamedTuple):
    """A kind of folder.

    Attributes:
        what: its name in a sentence, with an article.
        files: what will be written in the folder, or may be, given the inputs of the command.
        foreign: names of things in a folder that is there, among which this program has no business.
    """

    what: str
    files: Callable[[Path, Sequence[Path]], Iterator[tuple[Path, FileKind]]]
    foreign: Callable[[Path], Sequence[str]] = lambda folder: ()


def _pictures() -> Collection[str]:
    from clip_feature_codec.images import IMAGE_SUFFIXES

    return IMAGE_SUFFIXES


def _read_pictures() -> Collection[str]:
    from clip_feature_codec.images import READ_SUFFIXES

    return READ_SUFFIXES


STREAM = FileKind("a .clp stream", lambda: (".clp",), marks.keep_stream, piped=True)
PICTURE = FileKind("a picture", _pictures, marks.keep_picture, must_end=True)
PIPED_PICTURE = FileKind("a picture", _pictures, marks.keep_picture, must_end=True, piped=True)
RESULT = FileKind("a result in JSON", lambda: (".json",), marks.keep_result, piped=True)
PAGE = FileKind("a page in HTML", lambda: (".html", ".htm"), marks.keep_page, piped=True)
TABLE = FileKind("a table", lambda: (".csv", ".parquet"), marks.keep_table, must_end=True)
CODEC = FileKind("a codec.json", lambda: (".json",), marks.keep_codec)
_STORED = FileKind("a file of the store", lambda: (), lambda path: "", replaced=False)
_DECODER = FileKind("a decoder", lambda: (".pt", ".safetensors"), marks.keep_decoder)
_CACHED = FileKind("a file of pictures", lambda: (".rgb",), marks.keep_cache)
_DATABASE = FileKind("a database", lambda: (".sqlite",), marks.keep_database)

ENDINGS_OF = (
    ("pictures", _read_pictures),
    *((kind.what, kind.endings) for kind in (STREAM, RESULT, PAGE, TABLE, _DECODER, _DATABASE)),
)
"""What names say by their endings."""


def _store(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    yield from ((folder / name, _STORED) for name in (CODEC_FILE, *MANIFEST_FILES))


def _decoder(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    yield folder / DECODER_FILE, _DECODER


def _decoded(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    for store in filter(stores.is_store, inputs):
        yield from ((path, PICTURE) for path in stores.decoded_from(store, folder))


def _all_png(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    yield from ((path, PICTURE) for path in sorted(folder.glob("*.png")))


def _demo(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    yield folder / "index.html", PAGE
    yield folder / "grid.png", PICTURE
    yield from _all_png(folder / "photos", inputs)


def _cached(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    yield from ((path, _CACHED) for path in sorted(folder.glob("*.rgb")))


def _searches(folder: Path, inputs: Sequence[Path]) -> Iterator[tuple[Path, FileKind]]:
    yield folder / "searches.sqlite", _DATABASE


def _not_exported(folder: Path) -> list[str]:
    if not folder.is_dir() or (folder / EXPORT_FILE).is_file():
        return []
    return sorted(path.name for path in folder.iterdir())


STORE = FolderKind("a store, a folder", _store, stores.foreign)
EXPORT = FolderKind("an export, a folder", lambda folder, inputs: iter(()), _not_exported)
TRAINED_STORE = FolderKind("a store, a folder", _decoder)
DECODED = FolderKind("a folder of pictures", _decoded)
FIGURES = FolderKind("a folder of curves", _all_png)
CACHE = FolderKind("a folder of pictures at their training size", _cached)
WORK = FolderKind("a folder for unfinished work", _searches)
DEMO = FolderKind("a folder for the demonstration", _demo, lambda folder: stores.foreign(folder / "store"))
