"""Lone ``.clp`` files on the command line, and the tables that they were written with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.cli.common import naming, read_bytes
from clip_feature_codec.files import STDIO

if TYPE_CHECKING:
    from clip_feature_codec.bundle import Bundle
    from clip_feature_codec.codec.bitstream import Stream


def open_stream(path: Path, codec_path: str | None = None) -> tuple[Bundle, Stream]:
    """Read a ``.clp`` file, or standard input for ``-``, and find its tables (see `parse_stream`)."""
    return parse_stream(read_bytes(path), path, codec_path)


def parse_stream(
    blob: bytes, path: Path, codec_path: str | None = None, store_dir: Path | None = None
) -> tuple[Bundle, Stream]:
    """Find the tables of a stream that has been read, and take it apart.

    Args:
        blob: the stream.
        path: where it was read; ``-`` is standard input.
        codec_path: store or ``codec.json`` that it was coded with; by default found by its codec id.
        store_dir: a store whose tables are tried before those near ``path``.

    Raises:
        BitstreamError: it is damaged or there are no tables for it; with its name, and theirs.
        StoreError: there are no tables at ``codec_path``.
    """
    from clip_feature_codec.bundle import Bundle, bundle_of, bundles_near

    candidates = []
    if named := codec_path or store_dir:
        candidates.append(Bundle.find(named))
        _ = candidates[0].codec  # other tables that cannot be read are passed over, but not these
    if not codec_path:
        candidates += bundles_near(None if path == STDIO else path)
    with naming(path):
        return bundle_of(blob, candidates)
