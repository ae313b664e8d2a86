"""A store coded again without its pictures: fewer layers, fewer bytes, or the tables of another codec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clip_feature_codec.codec.bitstream import LAYERS, Stream
from clip_feature_codec.codec.budget import require_budget
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.transcode import transcode
from clip_feature_codec.errors import ConfigError, MissingLayerError
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.locking import exclusive
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store

_STREAMS_AT_ONCE = 1024


@dataclass(frozen=True)
class TranscodeResult:
    """What `transcode_store` did.

    Attributes:
        sizes: (old, new) bytes of each stream that was coded again.
        failures: (path, reason) of those that were not: they cannot be decoded, or not be written.
    """

    sizes: list[tuple[int, int]]
    failures: list[tuple[str, str]]


def transcode_store(
    store: Store,
    out_dir: Path,
    rate: Rate,
    codec: FeatureCodec | None = None,
    progress: Progress = silent,
) -> TranscodeResult:
    """Code every stream of a store again, into another store (see `codec.transcode.transcode`).

    Run again after an interruption, it gives what it would have given at once. Pictures keep their names
    where no other picture has them in the new store.

    Args:
        store: the streams.
        out_dir: the new store; one that is there is added to.
        rate: how large or how good the new streams should be, and which layers they keep.
        codec: the new store's tables, of the same CLIP space; by default the old ones.
        progress: told of the streams that are done.

    Raises:
        ConfigError: the two stores are one, the new one has other tables, or the rate cannot be met.
        SpaceMismatchError: ``codec`` is of another CLIP space.
        MissingLayerError: a stream has none of the layers that are to be kept.
    """
    codec = codec or store.codec
    if out_dir.resolve() == store.folder.resolve():
        raise ConfigError(f"{out_dir}: found the store itself, expected another folder")
    whole, failures = _streams(store, rate, codec)
    result = TranscodeResult([], failures)
    with exclusive(out_dir):
        target = _store_there(out_dir, codec)
        progress("transcoding", 0, len(whole))
        for start in range(0, max(1, len(whole)), _STREAMS_AT_ONCE):
            block = whole[start : start + _STREAMS_AT_ONCE]
            blobs = transcode([stream for _, stream in block], rate, store.codec, codec)
            if target is None:
                target = FeatureStore.create(out_dir, codec)
            failed = dict(target.add_from(store, [entry for entry, _ in block], blobs))
            result.failures.extend(failed.items())
            result.sizes.extend(
                (entry.bytes, len(blob))
                for (entry, _), blob in zip(block, blobs, strict=True)
                if str(store.stream_path(entry)) not in failed
            )
            progress("transcoding", start + len(block), len(whole))
    return result


def _streams(
    store: Store, rate: Rate, codec: FeatureCodec
) -> tuple[list[tuple[Entry, Stream]], list[tuple[str, str]]]:
    """What `Store.whole_streams` gives; whatever would stop the work later on stops it here."""
    codec.space.require_same(store.codec.space, "the streams to transcode")
    whole, failures = store.whole_streams()
    for entry, stream in whole:
        there = [name for name in LAYERS if stream.payload(name) is not None]
        kept = [name for name in there if rate.layers in ("both", name)]
        if not kept:
            path = store.stream_path(entry)
            raise MissingLayerError(f"{path}: {rate.layers} layer: found none, expected one to keep")
        if rate.max_bytes is not None:
            require_budget(rate.max_bytes, codec.smallest(kept[0], stream.aspect))
    return whole, failures


def _store_there(folder: Path, codec: FeatureCodec) -> FeatureStore | None:
    """The store that is there already, of the same tables."""
    if not (folder / CODEC_FILE).is_file():
        return None
    store = FeatureStore.open(folder)
    if store.codec.tables_sha256 != codec.tables_sha256:
        raise ConfigError(f"store {folder} has tables of its own: transcode to a new folder")
    return store
