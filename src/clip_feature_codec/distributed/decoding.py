"""Pictures of a store painted by a cluster (see `decoding`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from clip_feature_codec.decoding import Show, decode_store
from clip_feature_codec.distributed.blocks import NOTES, StoreReader, blocks
from clip_feature_codec.distributed.cluster import network_stage
from clip_feature_codec.distributed.pipeline import Stage, run
from clip_feature_codec.encode.attempts import Attempts
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store

_STREAMS_AT_ONCE = 64

Failures = list[tuple[str, str]]


def decode_on_ray(
    store: Store,
    out_dir: Path,
    show: Show,
    made_with: str,
    device: str | None,
    *,
    layer: str | None = None,
    progress: Progress = silent,
) -> Failures:
    """Write the pictures of all streams, on the cluster that is connected (see `decoding.decode_store`).

    Args:
        store: the streams.
        out_dir: the folder, under this path on every machine.
        show: gives the pictures of streams; it can be pickled.
        made_with: what the pictures depend on beside their streams.
        device: where the decoder runs (see `devices.pick_device`); None where none is needed.
        layer: streams without it are failures.
        progress: told of the pictures that are written.

    Returns:
        (path, reason) of the streams that cannot be decoded, or that processes die of.
    """
    count, done = len(store), 0
    failures: Failures = []
    out_dir = out_dir.resolve()
    attempts = Attempts(out_dir / NOTES, f"{made_with} {layer}")
    make = partial(_painter, store.folder.resolve(), count, out_dir, show, made_with, layer, attempts)
    progress("decoding", 0, count)
    work = blocks(count, _STREAMS_AT_ONCE)
    stage = network_stage(make, device) if device else Stage(make)
    for block, failed in zip(work, run(work, stage), strict=True):
        failures += failed
        done += len(block)
        progress("decoding", done, count, len(failures))
    attempts.remove()
    return failures


def _painter(
    folder: Path,
    count: int,
    out_dir: Path,
    show: Show,
    made_with: str,
    layer: str | None,
    attempts: Attempts,
) -> Callable[[range], Failures]:
    reader = StoreReader(folder, count)

    def paint(entries: Sequence[Entry]) -> Failures:
        return decode_store(reader.store, entries, out_dir, show, made_with, layer=layer)

    def paint_what_can_be(block: range) -> Failures:
        failures, died = reader.attempt(attempts, block, "decoded", paint)
        return failures + died

    return paint_what_can_be
