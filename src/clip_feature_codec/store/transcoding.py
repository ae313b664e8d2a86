"""A store coded again without its pictures: fewer layers, fewer bytes, or the tables of another codec."""

from __future__ import annotations

from pathlib import Path

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.transcode import transcode
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.store.feature_store import FeatureStore, exclusive

_ROWS_AT_ONCE = 1024


def transcode_store(
    store: FeatureStore, out_dir: Path, rate: Rate, codec: FeatureCodec | None = None
) -> tuple[FeatureStore, list[tuple[str, str]]]:
    """Code every stream of a store again, into another store (see `codec.transcode.transcode`).

    Run again after an interruption, it gives what it would have given at once.

    Args:
        store: the streams.
        out_dir: the new store; one that is there is added to.
        rate: how large or how good the new streams should be, and which layers they keep.
        codec: its tables, of the same CLIP space; by default the old ones.

    Returns:
        The new store, and (path, reason) of each stream that cannot be decoded; they are left out.

    Raises:
        ConfigError: the two stores are one, the new one has other tables, or the rate cannot be met.
        SpaceMismatchError: ``codec`` is of another CLIP space.
        MissingLayerError: a stream has none of the layers that are to be kept.
    """
    codec = codec or store.codec
    if out_dir.resolve() == store.folder.resolve():
        raise ConfigError(
            f"{out_dir}: found the store itself, expected another folder: nothing is overwritten"
        )
    whole, failures = store.whole_streams()
    entries = [entry for entry, _ in whole]
    blobs = transcode([stream for _, stream in whole], rate, store.codec, codec)
    with exclusive(out_dir):
        if not (out_dir / CODEC_FILE).is_file():
            result = FeatureStore.create(out_dir, codec)
        else:
            result = FeatureStore.open(out_dir)
            if result.codec.tables_sha256 != codec.tables_sha256:
                raise ConfigError(f"store {out_dir} has tables of its own: transcode to a new folder")
        for start in range(0, len(entries), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            result.add_from(store, entries[rows], blobs[rows])
    return result, failures
