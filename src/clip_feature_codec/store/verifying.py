"""What a store holds, by its manifest, and whether that is true."""

from __future__ import annotations

from collections.abc import Iterator

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.errors import BitstreamError
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry, Totals
from clip_feature_codec.store.protocol import Store

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

    def blocks() -> Iterator[tuple[list[tuple[Entry, Stream]], list[tuple[str, str]]]]:
        for start in range(0, len(entries), _STREAMS_AT_ONCE):
            failures: list[tuple[str, str]] = []
            yield list(store.whole_streams(failures, entries[start : start + _STREAMS_AT_ONCE])), failures

    def decode(read: tuple[list[tuple[Entry, Stream]], list[tuple[str, str]]]) -> list[tuple[str, str]]:
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
    for number, failures in enumerate(in_order(decode, blocks()), 1):
        damaged += failures
        progress("verifying", min(number * _STREAMS_AT_ONCE, len(entries)), len(entries), len(damaged))
    return damaged
