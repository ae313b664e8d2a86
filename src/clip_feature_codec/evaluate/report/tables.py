"""Every row of an evaluation as one table for other programs: CSV or Parquet."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.files import encodable, write_atomic

_SUFFIXES = (".csv", ".parquet")


def check_table_name(path: Path) -> None:
    """Refuse a name whose ending is no table's, before the work and not after it.

    Raises:
        ConfigError: the ending is neither ``.csv`` nor ``.parquet``.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{path}: a table is written as {' or '.join(_SUFFIXES)}, found {path.suffix!r}")


def write_table(evaluation: Evaluation, path: Path) -> None:
    """Write one line per `Row`, each metric of a pair as a column; the format is named by the ending.

    CSV is UTF-8 with commas and leaves a value that is None empty; Parquet makes it null. Names that are not
    UTF-8 are escaped: see `files.encodable`. Metrics over a set have no picture, so they are not in it: they
    are in the JSON form.

    Raises:
        ConfigError: the ending is neither ``.csv`` nor ``.parquet``.
        OSError: the file cannot be written.
    """
    check_table_name(path)
    columns = _columns(evaluation)
    write_atomic(path, _csv(columns) if path.suffix.lower() == ".csv" else _parquet(columns))


def _columns(evaluation: Evaluation) -> dict[str, list[Any]]:
    metrics = [name for name, metric in evaluation.metrics.items() if metric.over == "pair"]
    lines = []
    for row in evaluation.rows:
        fields = asdict(row)
        fields["image"] = encodable(row.image)
        measured = fields.pop("metrics")
        costs = {name: fields.pop(name) for name in ("encode_ms", "decode_ms", "encode_mb", "decode_mb")}
        lines.append(fields | {name: measured.get(name) for name in metrics} | costs)
    return {name: [line[name] for line in lines] for name in lines[0]} if lines else {}


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"image": pa.string(), "series": pa.string(), "settings": pa.string()}
    types |= dict.fromkeys(("budget", "seed", "bytes", "payload_bytes"), pa.int64())
    # A column of nothing but None has a type, too.
    table = pa.table(
        {name: pa.array(values, types.get(name, pa.float64())) for name, values in columns.items()}
    )
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()
