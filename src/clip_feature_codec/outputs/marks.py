"""Whether a file that lies where a command writes has to be kept, told from the file itself.

Each ``keep_`` function gives the reason, or nothing: then this program wrote it, and can write it again.
"""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.files import MAKER
from clip_feature_codec.outputs.stores import is_store, is_stream_of, store_of

_HEAD = 4096  # bytes in which our marks are found
_TABLE_COLUMNS = ["image", "series", "budget"]  # those that `evaluate.report.write_table` begins with


def keep_stream(path: Path) -> str:
    """Keep what is no stream, and a stream that a store's manifest names."""
    from clip_feature_codec.codec.bitstream import MAGIC

    if _head(path)[:1] != bytes([MAGIC]):
        return "it is no .clp stream"
    store = store_of(path)
    return f"it belongs to the store {store}" if store and is_stream_of(store, path) else ""


def keep_picture(path: Path) -> str:
    """Keep pictures of other programs, and what is none."""
    from clip_feature_codec.images import has_mark

    return "" if has_mark(path) else "it is no picture that clip-codec wrote"


def keep_result(path: Path) -> str:
    """Keep JSON of other programs, and what is none."""
    return "" if f'"made_by": "{MAKER}"'.encode() in _head(path) else "it is no result of clip-codec"


def keep_codec(path: Path) -> str:
    """Keep what is no ``codec.json``, and that of a store, whose streams would be lost with it."""
    from clip_feature_codec.codec.feature_codec import FORMAT

    if f'"format": "{FORMAT}"'.encode() not in _head(path):
        return "it is no codec.json"
    store = path.resolve().parent
    return f"the streams of the store {store} need it" if is_store(store) else ""


def keep_page(path: Path) -> str:
    """Keep pages that do not name this program as their generator."""
    mark = f'<meta name="generator" content="{MAKER}">'
    return "" if mark.encode() in _head(path) else "it is no page that clip-codec wrote"


def keep_table(path: Path) -> str:
    """Keep tables that do not begin with our columns."""
    if path.suffix.lower() == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            columns = parquet.read_schema(path).names
        except (pyarrow.ArrowException, OSError):
            columns = []
    else:
        columns = _head(path).partition(b"\n")[0].decode("utf-8", "replace").split(",")
    ours = columns[: len(_TABLE_COLUMNS)] == _TABLE_COLUMNS
    return "" if ours else "it is no table that clip-codec wrote"


def keep_decoder(path: Path) -> str:
    """Keep a store's decoder that was not trained there."""
    trained_here = (path.parent / "train" / "state.pt").is_file()
    return "" if trained_here else "it was not trained in this store"


def keep_database(path: Path) -> str:
    """Keep what is no database of SQLite."""
    return "" if _head(path).startswith(b"SQLite format 3\0") else "it is no database of clip-codec"


def keep_cache(path: Path) -> str:
    """Keep what does not begin as our pictures for training do."""
    ours = _head(path).startswith(f"{MAKER} pictures\n".encode())
    return "" if ours else "it keeps no pictures of clip-codec's"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
