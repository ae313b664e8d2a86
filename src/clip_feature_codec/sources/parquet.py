"""Parquet files with a column of pictures, as Hugging Face's datasets and img2dataset write them.

The first write ``struct{bytes, path}``: such a picture is called by the number of its row and what its path
ends in. The others write bytes in a column called by the format, and a ``key``, which names the picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from clip_feature_codec.errors import MissingExtraError, StoreError
from clip_feature_codec.extras import extra
from clip_feature_codec.places import place_in, safe_name
from clip_feature_codec.sources.part import ArchivePart, normal
from clip_feature_codec.sources.protocol import Notes, SourcePicture
from clip_feature_codec.sources.storage import StoredFile, open_file, why

SPLIT_BYTES = 1 << 30
"""A file that is larger is several parts of about half that size."""

_NAMED = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp")
"""What a column of pictures is called, the most likely name first."""
_ROWS_AT_ONCE = 16
_BUFFER = 1 << 20  # bytes of a column chunk that are read at once: without a buffer, all of it is


@dataclass(frozen=True)
class ParquetPart(ArchivePart):
    """The pictures of some row groups of a Parquet file.

    Attributes:
        groups: the first row group, and the one behind the last; None: all of them.
    """

    groups: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """The file's place, and which row groups of it."""
        return self.file.place + ("" if self.groups is None else "#{}-{}".format(*self.groups))

    def pictures(self, notes: Notes) -> Iterator[SourcePicture]:
        """The pictures in order, each with its content; rows without one are skipped."""
        place = self.file.place
        try:
            with _opened(place) as parquet:
                columns = Columns.find(place, parquet.schema_arrow)
                first, last = self.groups or (0, parquet.num_row_groups)
                seen = set(columns.keys(parquet, first))
                row = sum(parquet.metadata.row_group(group).num_rows for group in range(first))
                for group in range(first, last):
                    yield from self._group(parquet, group, row, columns, seen, notes)
                    row += parquet.metadata.row_group(group).num_rows
        except MissingExtraError:
            raise
        except StoreError as error:
            notes.failures.append((place, str(error)))
        except Exception as error:  # damage, or whatever a library of some provider raises  # noqa: BLE001
            notes.failures.append((place, f"{place}: cannot be read: {why(error)}"))
            notes.complete = _is_damage(error)

    def _group(
        self, parquet: Any, group: int, row: int, columns: Columns, seen: set[str], notes: Notes
    ) -> Iterator[SourcePicture]:
        """The pictures of a row group, of which the first is in a row; those before a damaged place."""
        try:
            for batch in _batches(parquet, group, columns.names):
                for number, content, text in columns.rows(batch, row):
                    found = self._picture(number, content, text, columns, seen, notes)
                    if found is not None:
                        yield found
                row += batch.num_rows
        except Exception as error:
            if not (_is_damage(error) or _may_be_damage(error)):
                raise
            place = self.file.place
            reason = f"{place}: row group {group} is damaged from row {row} on: {why(error)}"
            notes.failures.append((place, reason))
            notes.complete &= _is_damage(error)

    def _picture(
        self,
        row: int,
        content: bytes | None,
        text: str,
        columns: Columns,
        seen: set[str],
        notes: Notes,
    ) -> SourcePicture | None:
        name = columns.name(row, text)
        place = place_in(self.file.place, name)
        if content is None:
            if text and not columns.key:
                reason = f"{place}: the file holds no picture here, but where it was: {text}"
                notes.failures.append((place, reason))
            else:
                notes.skipped["rows without a picture"] += 1
            return None
        if columns.key:
            if name in seen:
                notes.failures.append(
                    (place, f"{place}: the file has this key twice: the first one is taken")
                )
                return None
            seen.add(name)
        return SourcePicture(
            place_in(self.name, normal(name)), place, len(content), self.file.mtime_ns, content
        )


@dataclass(frozen=True)
class Columns:
    """Where a Parquet file has its pictures.

    Attributes:
        pictures: the column.
        is_struct: whether it has ``bytes`` and ``path`` inside; else it has the bytes.
        key: whether a column ``key`` names them.
    """

    pictures: str
    is_struct: bool
    key: bool

    @classmethod
    def find(cls, place: str, schema: Any) -> Columns:
        """The column of pictures of an Arrow schema.

        Raises:
            StoreError: there is none.
        """
        import pyarrow as pa

        kinds = {
            field.name: pa.types.is_struct(field.type)
            for field in schema
            if _is_binary(field.type) or (pa.types.is_struct(field.type) and _has_bytes(field.type))
        }
        declared = _declared(schema.metadata or {})
        likely = [name for name in (*declared, *_NAMED) if name in kinds]
        structs = [name for name, is_struct in kinds.items() if is_struct]
        if not likely and len(structs) != 1:
            expected = f"struct{{bytes, path}}, or bytes in a column called {', '.join(_NAMED)}"
            found = ", ".join(schema.names) or "none"
            raise StoreError(f"{place}: no column of pictures: found {found}, expected {expected}")
        chosen = (likely or structs)[0]
        return cls(chosen, kinds[chosen], "key" in schema.names and not kinds[chosen])

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [self.pictures, *(["key"] if self.key else [])]

    def keys(self, parquet: Any, groups: int) -> Iterator[str]:
        """The names of the pictures in the first row groups, where a key gives them."""
        if self.key and groups:
            for value in parquet.read_row_groups(list(range(groups)), columns=["key"])["key"].to_pylist():
                yield self.name(0, _text(value))

    def rows(self, batch: Any, first: int) -> Iterator[tuple[int, bytes | None, str]]:
        """The rows of a batch: number, content, and key or path."""
        pictures = batch.column(self.pictures)
        keys = batch.column("key") if self.key else None
        for i in range(batch.num_rows):
            value = pictures[i].as_py()
            if self.is_struct:
                value = value or {}
                yield first + i, value.get("bytes"), _text(value.get("path"))
            else:
                yield first + i, value, "" if keys is None else _text(keys[i].as_py())

    def name(self, row: int, text: str) -> str:
        """What a picture is called in its file, by its row and its key or path."""
        if self.key and safe_name(text):
            ending = f".{self.pictures}" if self.pictures in _NAMED[-4:] else ""
            return safe_name(text) + ending
        last = safe_name(PurePosixPath(text.replace("\\", "/")).name)
        return f"{row:08}-{last}" if last else f"{row:08}"


def parquet_parts(file: StoredFile, name: str) -> Iterator[ParquetPart]:
    """A file as one part; a large one as several, each some row groups."""
    if file.bytes <= SPLIT_BYTES:
        yield ParquetPart(file, name)
        return
    try:
        with _opened(file.place) as parquet:
            metadata = parquet.metadata
            sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    except Exception:  # whoever reads it says so  # noqa: BLE001
        sizes = []
    first = held = 0
    for group, size in enumerate(sizes, 1):
        held += size
        if held >= SPLIT_BYTES // 2 or group == len(sizes):
            yield ParquetPart(file, name, (first, group))
            first, held = group, 0
    if not sizes:
        yield ParquetPart(file, name)


def read_row(place: str, name: str) -> bytes | None:
    """The content of the picture that has a name in a Parquet file; None where there is none.

    Raises whatever reading raises.
    """
    with _opened(place) as parquet:
        columns = Columns.find(place, parquet.schema_arrow)
        for group, row in _candidates(parquet, columns, name):
            start = sum(parquet.metadata.row_group(before).num_rows for before in range(group))
            for number, content, text in columns.rows(_row(parquet, group, row, columns.names), start + row):
                if columns.name(number, text) == name:
                    return content
    return None


def _row(parquet: Any, group: int, row: int, columns: list[str]) -> Any:
    """One row of a row group, as a batch; no more is held than what comes with it."""
    for batch in _batches(parquet, group, columns):
        if row < batch.num_rows:
            return batch.slice(row, 1)
        row -= batch.num_rows
    raise IndexError(f"row {row}: not in row group {group}")


def _candidates(parquet: Any, columns: Columns, name: str) -> Iterator[tuple[int, int]]:
    """The row groups, and rows in them, where a picture of that name may be."""
    number = name.partition("-")[0]
    wanted = int(number) if number.isdecimal() else -1
    start = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if columns.key:
            keys = parquet.read_row_group(group, columns=["key"])["key"].to_pylist()
            for row, key in enumerate(keys):
                if columns.name(start + row, _text(key)) == name:
                    yield group, row
        elif start <= wanted < start + rows:
            yield group, wanted - start
        start += rows


@contextmanager
def _opened(place: str) -> Iterator[Any]:
    with extra("packed", "a Parquet file of pictures"):
        from pyarrow import parquet

    with open_file(place) as file:
        yield parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)


def _batches(parquet: Any, group: int, columns: list[str]) -> Iterator[Any]:
    """The rows of a row group, a few at a time; in memory are a page of each column and these rows."""
    yield from parquet.iter_batches(_ROWS_AT_ONCE, [group], columns, use_threads=False)


def _text(value: object) -> str:
    """A key or a path, whatever the type of its column."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _has_bytes(kind: Any) -> bool:
    return any(field.name == "bytes" and _is_binary(field.type) for field in kind)


def _declared(metadata: Mapping[bytes, bytes]) -> list[str]:
    """The columns that Hugging Face's datasets call pictures, in what they write into a file's schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [name for name, kind in features.items() if kind.get("_type") == "Image"]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


def _is_damage(error: Exception) -> bool:
    import pyarrow as pa

    return isinstance(error, pa.ArrowException)


def _may_be_damage(error: Exception) -> bool:
    """Whether Arrow itself says so, in the words that it has for a file that ends early, too."""
    return type(error) is OSError and error.errno is None
