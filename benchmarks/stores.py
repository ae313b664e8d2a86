"""Pictures in Parquet files as stores, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.encode import encode_source
from clip_feature_codec.files import write_atomic
from clip_feature_codec.store.writing import WritableStore


def make_store(
    codec: ClipCodec, parquet: Path, folder: Path, rate: Rate = DEFAULT_RATE, count: int | None = None
) -> WritableStore:
    """Write the pictures of a column ``image`` to ``folder/pictures`` and encode them to ``folder/store``.

    Run again, it does what is missing.
    """
    pictures = folder / "pictures"
    table = pq.read_table(parquet, columns=["image"])
    for i, data in enumerate(table["image"].to_pylist()[:count]):
        path = pictures / f"{_name(i)}.webp"
        if not path.exists():
            write_atomic(path, data)
    return encode_source(pictures, folder / "store", codec.embedder, codec.features, rate).store


def class_names(parquet: Path) -> dict[str, str]:
    """What is on the pictures of a column ``text``, by their names in the store that `make_store` makes."""
    texts = pq.read_table(parquet, columns=["text"])["text"].to_pylist()
    return {_name(i): text for i, text in enumerate(texts) if text}


def _name(row: int) -> str:
    return f"{row:05}"
