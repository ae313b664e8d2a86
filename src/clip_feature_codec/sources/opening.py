"""From what a person has written to a source: a folder, tars, Parquet files, here or on object storage."""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.sources.protocol import Source


def open_source(name: str, leave_out: Path | None = None) -> Source:
    """List the source that a name means.

    Args:
        name: a folder; a tar or a Parquet file; several by ``*``, ``?``, ``[...]`` or ``{000..099}``, ``{a,b}``; or
            a folder that holds such files and no pictures. A path, or a URL of fsspec's (``s3://bucket/x/``).
        leave_out: a folder that is passed over, should it lie inside.

    Raises:
        StoreError: there is no such thing, or no picture in it.
        MissingExtraError: it needs packages of an extra.
    """
    raise NotImplementedError
