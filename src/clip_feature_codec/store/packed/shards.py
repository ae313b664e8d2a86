"""Shards: Parquet files of some 100,000 streams with what is known of their pictures.

Rows stand in groups of `GROUP_ROWS`, which are what is read at least: a stream's group in a third of a
millisecond from a mapped file. Of names, what the one before begins with is left out, and of sources, their
names; numbers take as many bits as they need; streams and hashes cannot be made smaller.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import StoreError, reason
from clip_feature_codec.extras import extra
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.store.manifest import HASH_BYTES, Entry, Totals, from_text, require_inside, to_text

if TYPE_CHECKING:
    import pyarrow

SHARD_ROWS = 100_000
GROUP_ROWS = 1024

_GROUPS_KEPT = 16  # of one shard, in memory
_FEW = 64  # rows of a group: each by itself is quicker, below that
_DELTA = ("bytes", "semantic_bytes", "layout_bytes", "source_bytes", "source_mtime")
_SEPARATE = ("stream", "sha256")  # nothing makes them smaller
_SOURCE = ("source_before", "source_after")
_FACTS = (
    *("name", "source", "sha256", "bytes", "width", "height"),
    *("source_bytes", "source_mtime", "semantic_bytes", "layout_bytes"),
)
"""The columns of an `Entry`, in the order of its fields."""


def schema() -> pyarrow.Schema:
    """The columns of a shard."""
    pa = _arrow()
    whole, long = pa.int32(), pa.int64()
    return pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("source_before", pa.string(), nullable=False),
            pa.field("source_after", pa.string()),
            pa.field("stream", pa.binary(), nullable=False),
            pa.field("sha256", pa.binary(), nullable=False),
            pa.field("bytes", whole, nullable=False),
            pa.field("semantic_bytes", whole, nullable=False),
            pa.field("layout_bytes", whole, nullable=False),
            pa.field("width", whole, nullable=False),
            pa.field("height", whole, nullable=False),
            pa.field("aspect", pa.float32(), nullable=False),
            pa.field("source_bytes", long, nullable=False),
            pa.field("source_mtime", pa.timestamp("ns", "UTC"), nullable=False),
        ]
    )


def to_table(rows: Iterable[tuple[Entry, bytes]]) -> pyarrow.Table:
    """Entries with their streams as the rows of a shard."""
    waiting, batches = iter(rows), []
    while some := list(islice(waiting, GROUP_ROWS)):  # in Arrow's columns they take a fifth of the memory
        batches.append(_to_batch(some))
    return _arrow().Table.from_batches(batches, schema())


def _to_batch(rows: Sequence[tuple[Entry, bytes]]) -> pyarrow.RecordBatch:
    pa = _arrow()
    entries = [entry for entry, _ in rows]
    columns: dict[str, list[Any]] = {
        "name": [to_text(entry.name) for entry in entries],
        **_split([to_text(e.name) for e in entries], [to_text(e.source) for e in entries]),
        "stream": [stream for _, stream in rows],
        "sha256": [bytes.fromhex(entry.sha256) for entry in entries],
        "aspect": [entry.width / entry.height for entry in entries],
        "source_mtime": [entry.source_mtime_ns for entry in entries],
    }
    wanted = schema()
    arrays = [
        pa.array(columns.get(field.name) or [getattr(entry, field.name) for entry in entries], field.type)
        for field in wanted
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def write_shard(path: Path, table: pyarrow.Table, codec_id: str) -> None:
    """Write a shard, whole or not at all.

    Args:
        path: the file.
        table: its rows, with the columns of `schema`.
        codec_id: of the tables that the streams are coded with, in hex; for those who find the shard alone.

    Raises:
        OSError: it cannot be written.
    """
    from pyarrow import parquet

    names = table.schema.names
    encodings = {"name": "DELTA_BYTE_ARRAY"} | dict.fromkeys(_SEPARATE, "DELTA_LENGTH_BYTE_ARRAY")
    encodings |= dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED")
    metadata = {"clip_feature_codec": "packed store, version 1", "codec_id": codec_id}
    with atomic_writer(path, durable=True) as file:
        parquet.write_table(
            table.replace_schema_metadata(metadata),
            file,
            row_group_size=GROUP_ROWS,
            use_dictionary=["width", "height", "aspect", *_SOURCE],
            column_encoding=encodings,
            compression={name: "none" if name in _SEPARATE else "zstd" for name in names},
            write_statistics=["name"],
        )


def _split(names: Sequence[str], sources: Sequence[str]) -> dict[str, list[Any]]:
    """What sources have before and behind their names; where the name is not in one, it whole, and None."""
    parts = [source.rpartition(name) for name, source in zip(names, sources, strict=True)]
    before = [first if name else source for (first, name, _), source in zip(parts, sources, strict=True)]
    return {"source_before": before, "source_after": [last if name else None for _, name, last in parts]}


def joined(first: pyarrow.Table, second: pyarrow.Table) -> pyarrow.Table:
    """The rows of two tables of shards, one after the other."""
    wanted = schema()
    return _arrow().concat_tables([first.cast(wanted), second.cast(wanted)])


class Shard:
    """A shard, mapped: one that is replaced meanwhile is still read.

    Args:
        path: the file.
        number: what `Entry.place` calls it.
        dropped: rows that are no longer in the store.

    Raises:
        StoreError: there is no such file, or it is no shard.
    """

    def __init__(self, path: Path, number: int, dropped: set[int]) -> None:
        self.path, self.number, self.dropped = path, number, dropped
        self._file = _parquet_file(path)
        names = self._file.schema_arrow.names
        self._splits_sources = "source" not in names  # into what is before and behind the name
        missing = [name for name in self._columns if name not in names]
        if missing:
            raise StoreError(f"{path}: no shard of a packed store: it has no column {missing[0]!r}")
        groups: list[int] = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._starts: list[int] = [0, *accumulate(groups)]
        self._facts_of = lru_cache(_GROUPS_KEPT)(self._read_facts)
        self._streams_of = lru_cache(_GROUPS_KEPT)(self._read_streams)

    @property
    def rows(self) -> int:
        """How many rows there are, dropped ones included."""
        return self._starts[-1]

    def __len__(self) -> int:
        return self.rows - len(self.dropped)

    @cached_property
    def fingerprint(self) -> str:
        """What tells the file from any other: its size, and a hash of what Parquet writes last."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(-8, os.SEEK_END)
            footer = int.from_bytes(file.read(4), "little")
            file.seek(-8 - footer, os.SEEK_END)
            return f"{size} {hashlib.sha256(file.read(footer)).hexdigest()[:16]}"

    def hashes(self) -> NDArray[np.uint8]:
        """`Entry.sha256` of all rows, dropped ones included, (rows, 16); zeros for what is none."""
        column = self._file.read(["sha256"])["sha256"].to_pylist()
        blobs = (blob if len(blob) == HASH_BYTES else bytes(HASH_BYTES) for blob in column)
        return np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, HASH_BYTES)

    def entry(self, row: int) -> Entry:
        """The entry of a row."""
        return next(self.entries([row]))

    def entries(self, rows: Iterable[int]) -> Iterator[Entry]:
        """The entries of rows; each group is read once where its rows are together."""
        for group, some in groupby(rows, lambda row: bisect_right(self._starts, row) - 1):
            start, table = self._starts[group], self._facts_of(group)
            places = [row - start for row in some]
            found: Iterator[Sequence[Any]]
            if len(places) < _FEW:
                found = ([table[name][place].as_py() for name in _FACTS] for place in places)
            else:
                rows_of = list(zip(*(table[name].to_pylist() for name in _FACTS), strict=True))
                found = (rows_of[place] for place in places)
            for place, values in zip(places, found, strict=True):
                yield _entry(self.path, values, (self.number, start + place))

    def stream(self, row: int) -> bytes:
        """The stream of a row. Raises OSError."""
        group = bisect_right(self._starts, row) - 1
        found: bytes = self._streams_of(group)[row - self._starts[group]].as_py()
        return found

    def rows_named(self, name: str) -> Iterator[int]:
        """The rows of a name, dropped ones included: only groups that may have it are read."""
        text = to_text(name)
        place = self._file.schema_arrow.get_field_index("name")
        for group, start in enumerate(self._starts[:-1]):
            known = self._file.metadata.row_group(group).column(place).statistics
            if known is None or not known.has_min_max or known.min <= text <= known.max:
                names = self._read(group, ["name"])["name"].to_pylist()
                yield from (start + row for row, found in enumerate(names) if found == text)

    def texts(self, name: str) -> pyarrow.Array:
        """``name`` or ``source`` of all rows, dropped ones included, as `to_text` gives them."""
        columns = ["name", *_SOURCE] if name == "source" and self._splits_sources else [name]
        table = self._with_sources(self._file.read(columns))
        return table[name].cast(_arrow().large_string()).combine_chunks()

    def table(self) -> pyarrow.Table:
        """All rows but the dropped ones."""
        pa = _arrow()
        table = self._file.read(self._columns)
        if not self._splits_sources:
            parts = _split(table["name"].to_pylist(), table["source"].to_pylist())
            arrays = [pa.array(parts[name]) if name in parts else table[name] for name in schema().names]
            table = pa.table(arrays, schema().names)
        if not self.dropped:
            return table
        return table.filter(pa.array([row not in self.dropped for row in range(self.rows)]))

    @property
    def _columns(self) -> list[str]:
        """The columns of the file that are read."""
        names = schema().names
        return names if self._splits_sources else ["source", *(name for name in names if name not in _SOURCE)]

    def _with_sources(self, table: pyarrow.Table) -> pyarrow.Table:
        """A table with the column ``source``, put together where it is in parts."""
        from pyarrow import compute

        if not self._splits_sources or not set(_SOURCE) <= set(table.schema.names):
            return table
        before, after = (table[name].cast(table["name"].type) for name in _SOURCE)
        nothing = compute.utf8_slice_codeunits(before, 0, 0)  # as a Python string it would import pandas
        whole = compute.binary_join_element_wise(before, table["name"], after, nothing)
        return table.append_column("source", compute.coalesce(whole, before))

    def totals(self) -> Totals:
        """Sums over all rows, dropped ones included."""
        from pyarrow import compute

        columns = ["bytes", "semantic_bytes", "layout_bytes"]
        table = self._file.read(columns)
        return Totals(self.rows, *(compute.sum(table[name]).as_py() or 0 for name in columns))

    def _read(self, group: int, columns: list[str]) -> pyarrow.Table:
        pa = _arrow()
        try:
            return self._file.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise OSError(0, f"{self.path.name}, row group {group}: {error}") from None

    def _read_facts(self, group: int) -> pyarrow.Table:
        pa = _arrow()
        try:
            split = {"source": _SOURCE} if self._splits_sources else {}
            columns = [column for name in _FACTS for column in split.get(name, (name,))]
            table = self._with_sources(self._read(group, columns))
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        place = table.schema.get_field_index("source_mtime")
        return table.set_column(place, "source_mtime", table["source_mtime"].cast(pa.int64()))

    def _read_streams(self, group: int) -> pyarrow.Array:
        return self._read(group, ["stream"])["stream"].combine_chunks()


def _entry(path: Path, row: Sequence[Any], place: tuple[int, int]) -> Entry:
    name, source, digest, *numbers = row
    try:
        name = from_text(name)
        require_inside(name)
        if len(digest) != HASH_BYTES:
            raise ValueError(f"sha256: found {len(digest)} bytes, expected {HASH_BYTES}")
    except ValueError as error:
        raise StoreError(f"{path}, row {place[1]}: not a picture ({error})") from None
    values: list[Any] = [name, from_text(source), digest.hex(), *numbers, place]
    return Entry(*values)


def _parquet_file(path: Path) -> Any:
    pa = _arrow()
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}") from None


def _arrow() -> Any:
    with extra("packed", "a packed store"):
        import pyarrow

    return pyarrow
