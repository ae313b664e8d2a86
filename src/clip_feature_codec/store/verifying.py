"""What a store holds, by its manifest, and whether that is true."""

from __future__ import annotations

from clip_feature_codec.errors import BitstreamError
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Totals
from clip_feature_codec.store.protocol import ReadBlock, Store

_STREAMS_AT_ONCE = 1024


def layer_bytes(store: Store) -> Totals:
    """Sums over a store's pictures; only streams whose layers nobody has written down are read.

    Those of them that cannot be read count as their header alone.
    """
    sums = store.totals()
    if not sums.unknown:
        return sums
    unknown = [entry for entry in store.entries if None in (entry.semantic_bytes, entry.layout_bytes)]
    for _, stream in store.whole_streams([], unknown):
        sums += Totals(0, 0, len(stream.semantic or b""), len(stream.layout or b""))
    return sums


def verify_store(store: Store, progress: Progress = silent) -> list[tuple[str, str]]:
    """Read and decode every stream, on all cores.

    Args:
        store: the store.
        progress: told of the streams that are read.

    Returns:
        (path, reason) of the streams that are missing, damaged, or do not decode.
    """
    entries = store.entries

    def decode(read: ReadBlock) -> list[tuple[str, str]]:
        streams, failures = read
        for entry, stream in streams:
            try:
                store.codec.decode([stream])
            except BitstreamError as error:
                path = str(store.stream_path(entry))
                failures.append((path, f"{path}: {error}"))
        return failures

    damaged: list[tuple[str, str]] = []
    progress("verifying", 0, len(entries))
    for number, failures in enumerate(in_order(decode, store.whole_blocks(entries, _STREAMS_AT_ONCE)), 1):
        damaged += failures
        progress("verifying", min(number * _STREAMS_AT_ONCE, len(entries)), len(entries), len(damaged))
    return damaged
