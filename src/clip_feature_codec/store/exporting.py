"""A store's vectors, names and streams in files that databases and numpy read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import ConfigError, OutputError, reason
from clip_feature_codec.extras import extra
from clip_feature_codec.files import MAKER
from clip_feature_codec.names import EXPORT_FILE, EXPORT_FORMATS
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.search.indexing import Streams

if TYPE_CHECKING:
    import pyarrow

_ROWS_AT_ONCE = 1024
_ROWS_OF_A_FILE = 100_000
_LARGEST_CODE = 127
_OURS = (
    EXPORT_FILE,
    *("rows.lance", "rows-*.parquet", "rows.jsonl"),
    *("streams.bin", "ends.npy", "vectors.npy", "codes.npy", "scales.npy"),
)
"""What an export may leave in its folder; the next one takes it away."""


class _Block(NamedTuple):
    """Some rows.

    Attributes:
        entries: N pictures.
        blobs: their streams.
        vectors: float16 (N, D), unit length but for rounding; or int8 (N, D) of codes.
        scales: float32 (N,), what codes are multiplied with; None for vectors.
    """

    entries: list[Entry]
    blobs: list[bytes]
    vectors: NDArray[Any]
    scales: NDArray[np.float32] | None


def export_store(
    store: Store, out: Path, to: str, *, codes: bool = False, progress: Progress = silent
) -> tuple[int, list[tuple[str, str]]]:
    """Write the decoded vectors of a store with names and streams, some at a time, whole or not at all.

    Args:
        store: the store.
        out: a folder; an export that is there is replaced.
        to: one of `EXPORT_FORMATS`. ``lance``: a table ``rows`` of a LanceDB database; ``parquet``: files
            ``rows-00000.parquet`` of some 100,000 rows; ``npy``: ``vectors.npy``, ``rows.jsonl``, and
            ``streams.bin`` with ``ends.npy``.
        codes: instead of float16, int8 codes with a scale for each vector: the vector is code * scale.
        progress: told of the streams that are done.

    Returns:
        How many pictures were written, and (path, reason) of those that cannot be decoded.

    Raises:
        ConfigError: another format.
        OutputError: it cannot be written.
    """
    if to not in EXPORT_FORMATS:
        raise ConfigError(f"format: found {to!r}, expected {', '.join(EXPORT_FORMATS)}")
    failures: list[tuple[str, str]] = []
    try:
        with _replacing(out) as folder:
            blocks = _blocks(store, codes, failures, progress)
            writer = {"lance": _write_lance, "parquet": _write_parquet, "npy": _write_npy}[to]
            count = writer(folder, blocks, store.codec.dim, codes)
            facts = {
                "made_by": MAKER,
                "format": to,
                "pictures": count,
                "dim": store.codec.dim,
                "vectors": "int8 codes, times scale" if codes else "float16",
                "space": store.codec.space.to_json(),
                "tables_sha256": store.codec.tables_sha256,
            }
            (folder / EXPORT_FILE).write_text(json.dumps(facts, indent=1) + "\n", "ascii")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {reason(error)}") from error
    return count, failures


def _blocks(
    store: Store, codes: bool, failures: list[tuple[str, str]], progress: Progress
) -> Iterator[_Block]:
    entries, done = store.entries, 0
    for whole, bad in store.whole_blocks(entries, _ROWS_AT_ONCE):
        progress("exporting", done, len(entries), len(failures))
        streams = Streams(store)
        good, vectors = streams.decode_read([entry for entry, _ in whole], [stream for _, stream in whole])
        done += len(whole) + len(bad)
        failures += [*bad, *streams.failures.values()]
        blob_of = {entry.name: stream.blob for entry, stream in whole}
        blobs = [blob_of[entry.name] for entry in good]
        if codes:
            scales = (np.abs(vectors).max(axis=1) / _LARGEST_CODE).astype(np.float32)
            yield _Block(good, blobs, np.rint(vectors / scales[:, None]).astype(np.int8), scales)
        else:
            yield _Block(good, blobs, vectors.astype(np.float16), None)
    progress("exporting", len(entries), len(entries), len(failures))


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder that takes the place of another one when the block ends well.

    Files of others that are there stay, but for those of the same names.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".", suffix=".tmp") as work:
        new, old = Path(work, "new"), Path(work, "old")
        new.mkdir()
        yield new
        if (out / EXPORT_FILE).is_file() or not out.exists():
            if out.exists():
                out.rename(old)
            new.rename(out)
            for path in list(old.iterdir()) if old.exists() else []:
                if not any(path.match(pattern) for pattern in _OURS):
                    path.rename(out / path.name)
            return
        for path in list(new.iterdir()):
            there = out / path.name
            shutil.rmtree(there) if there.is_dir() else there.unlink(missing_ok=True)
            path.rename(there)


def _write_lance(folder: Path, blocks: Iterator[_Block], dim: int, codes: bool) -> int:
    with extra("lance", "an export to Lance"):
        import lance
    import pyarrow

    count, failed = 0, []

    def batches() -> Iterator[pyarrow.RecordBatch]:
        nonlocal count
        try:
            for block in blocks:
                count += len(block.entries)
                yield _batch(block, dim)
        except BaseException as error:  # which would become an error of Lance's
            failed.append(error)
            raise

    schema = _schema(dim, codes)
    reader = pyarrow.RecordBatchReader.from_batches(schema, batches())
    try:
        lance.write_dataset(reader, str(folder / "rows.lance"), max_rows_per_file=_ROWS_OF_A_FILE)
    except Exception:
        if failed:
            raise failed[0] from None
        raise
    return count


def _write_parquet(folder: Path, blocks: Iterator[_Block], dim: int, codes: bool) -> int:
    with extra("packed", "an export to Parquet"):
        from pyarrow import parquet

    schema, count, within, files = _schema(dim, codes), 0, 0, 0
    texts = ["name", "source"]
    with ExitStack() as stack:
        for block in blocks:
            if within + len(block.entries) > _ROWS_OF_A_FILE or not files:
                stack.close()
                path = folder / f"rows-{files:05}.parquet"
                files += 1
                options = {name: "zstd" if name in texts else "none" for name in schema.names}
                writer = stack.enter_context(parquet.ParquetWriter(path, schema, compression=options))
                within = 0
            writer.write_batch(_batch(block, dim))
            within += len(block.entries)
            count += len(block.entries)
    return count


def _schema(dim: int, codes: bool) -> pyarrow.Schema:
    with extra("packed", "an export to Parquet or Lance"):
        import pyarrow as pa

    facts = [("name", pa.string()), ("source", pa.string()), ("width", pa.int32()), ("height", pa.int32())]
    rows = [pa.field(name, kind, nullable=False) for name, kind in [*facts, ("stream", pa.binary())]]
    if codes:
        more = [pa.field("codes", pa.list_(pa.int8(), dim)), pa.field("scale", pa.float32())]
    else:
        more = [pa.field("vector", pa.list_(pa.float16(), dim))]
    return pa.schema([*rows, *more])


def _batch(block: _Block, dim: int) -> pyarrow.RecordBatch:
    import pyarrow as pa

    from clip_feature_codec.files import encodable

    schema = _schema(dim, block.scales is not None)
    columns = [
        [encodable(entry.name) for entry in block.entries],
        [encodable(entry.source) for entry in block.entries],
        [entry.width for entry in block.entries],
        [entry.height for entry in block.entries],
        block.blobs,
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=False)]
    flat = pa.array(np.ascontiguousarray(block.vectors).reshape(-1))
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, dim))
    if block.scales is not None:
        arrays.append(pa.array(block.scales))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _write_npy(folder: Path, blocks: Iterator[_Block], dim: int, codes: bool) -> int:
    from clip_feature_codec.files import encodable

    end = 0
    with ExitStack() as stack:
        streams = stack.enter_context((folder / "streams.bin").open("wb"))
        rows = stack.enter_context((folder / "rows.jsonl").open("w", encoding="ascii"))
        ends = stack.enter_context(_Growing(folder / "ends.npy", np.dtype("<i8"), ()))
        kind = np.dtype("i1" if codes else "<f2")
        vectors = stack.enter_context(
            _Growing(folder / ("codes.npy" if codes else "vectors.npy"), kind, (dim,))
        )
        scales = stack.enter_context(_Growing(folder / "scales.npy", np.dtype("<f4"), ())) if codes else None
        for block in blocks:
            vectors.append(block.vectors)
            if scales is not None and block.scales is not None:
                scales.append(block.scales)
            streams.write(b"".join(block.blobs))
            sizes = end + np.cumsum([len(blob) for blob in block.blobs], dtype=np.int64)
            ends.append(sizes)
            end = int(sizes[-1]) if len(sizes) else end
            for entry in block.entries:
                facts = {"name": encodable(entry.name), "source": encodable(entry.source)}
                rows.write(json.dumps(facts | {"width": entry.width, "height": entry.height}) + "\n")
    return vectors.count


class _Growing:
    """A .npy file whose length is known in the end: numpy leaves room for it in the header.

    Args:
        path: the file.
        dtype: of its numbers.
        shape: of a row.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._file, self._dtype, self._shape = path.open("w+b"), dtype, shape
        self.count = 0
        self._write_header()

    def __enter__(self) -> _Growing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows (n, ...)."""
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self.count += len(rows)

    def _write_header(self) -> None:
        facts = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, facts | {"shape": (self.count, *self._shape)})
