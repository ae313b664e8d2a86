"""Pictures of a store painted by a cluster (see `decoding`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from clip_feature_codec.decoding import Show, decode_store
from clip_feature_codec.distributed.blocks import StoreReader, blocks
from clip_feature_codec.distributed.cluster import network_stage
from clip_feature_codec.distributed.pipeline import Stage, run
from clip_feature_codec.progress import Progress, silent
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
        (path, reason) of the streams that cannot be decoded.
    """
    count, done = len(store), 0
    failures: Failures = []
    make = partial(_painter, store.folder.resolve(), count, out_dir.resolve(), show, made_with, layer)
    progress("decoding", 0, count)
    work = blocks(count, _STREAMS_AT_ONCE)
    stage = network_stage(make, device) if device else Stage(make)
    for block, failed in zip(work, run(work, stage), strict=True):
        failures += failed
        done += len(block)
        progress("decoding", done, count, len(failures))
    return failures


def _painter(
    folder: Path, count: int, out_dir: Path, show: Show, made_with: str, layer: str | None
) -> Callable[[range], Failures]:
    reader = StoreReader(folder, count)

    def paint(block: range) -> Failures:
        return decode_store(reader.store, reader.entries(block), out_dir, show, made_with, layer=layer)

    return paint
