"""A store coded again without its pictures: fewer layers, fewer bytes, or the tables of another codec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from clip_feature_codec.codec.bitstream import LAYERS, overhead
from clip_feature_codec.codec.budget import require_budget
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.transcode import transcode
from clip_feature_codec.errors import BitstreamError, ConfigError, MissingLayerError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.locking import exclusive, remove_strays
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.opening import create_store, open_store
from clip_feature_codec.store.protocol import ReadBlock, Store
from clip_feature_codec.store.writing import WritableStore

STREAMS_AT_ONCE = 256
_WORK = ".transcode.json"

Coded: TypeAlias = tuple[list[Entry], list[tuple[str, str]], list[bytes]]
"""Entries of a block; (path, reason) of those that cannot be read; what the streams of the former became."""


class Elsewhere(Protocol):
    """Where a store is transcoded, if not in this process."""

    def coded(self, store: Store, start: int, rate: Rate, codec: FeatureCodec) -> Iterator[Coded]:
        """The blocks of a store from an entry on, in order, as `code_block` gives them."""

    def writer(self, target: WritableStore) -> WritableStore:
        """The same store, written to from there."""


@dataclass
class TranscodeResult:
    """What `transcode_store` did, earlier runs that were interrupted included.

    Attributes:
        streams: how many were coded again.
        bytes_before, bytes_after: of these.
        failures: (path, reason) of those that were not: they cannot be decoded, or not be written.
    """

    streams: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


def transcode_store(
    store: Store,
    out_dir: Path,
    rate: Rate,
    codec: FeatureCodec | None = None,
    progress: Progress = silent,
    *,
    packed: bool = False,
    elsewhere: Elsewhere | None = None,
) -> TranscodeResult:
    """Code every stream of a store again, into another store (see `codec.transcode.transcode`).

    Streams are written as they are coded, on all cores. Run again after an interruption, it goes on where it
    was, and gives what it would have given at once. Pictures keep their names where no other picture has
    them in the new store.

    Args:
        store: the streams.
        out_dir: the new store; one that is there is added to.
        rate: how large or how good the new streams should be, and which layers they keep.
        codec: the new store's tables, of the same CLIP space; by default the old ones.
        progress: told of the streams that are done.
        packed: make a packed store, where there is none yet.
        elsewhere: other processes or machines that do it.

    Raises:
        ConfigError: the two stores are one, the new one has other tables, or the rate cannot be met.
        SpaceMismatchError: ``codec`` is of another CLIP space.
        MissingLayerError: a stream has none of the layers that are to be kept.
    """
    codec = codec or store.codec
    if out_dir.resolve() == store.folder.resolve():
        raise ConfigError(f"{out_dir}: found the store itself, expected another folder")
    codec.space.require_same(store.codec.space, "the streams to transcode")
    entries = store.entries
    _require_possible(store, entries, rate, codec)
    with exclusive(out_dir):
        remove_strays(out_dir)
        target = _store_there(out_dir, codec) or create_store(out_dir, codec, packed=packed)
        work = _Work(out_dir / _WORK, store, entries, rate, codec)
        progress("transcoding", work.done, len(entries), len(work.result.failures))
        if elsewhere:
            target, coded = elsewhere.writer(target), elsewhere.coded(store, work.done, rate, codec)
        else:
            coded = _coded(store, entries, work.done, rate, codec)
        for block, failures, blobs in coded:
            failed = dict(target.add_from(store, block, blobs))
            work.add(store, block, blobs, failures, failed)
            if target.is_kept:
                work.save()
            progress("transcoding", work.done, len(entries), len(work.result.failures))
        target.finish()
        work.remove()
    return work.result


def code_block(read: ReadBlock, rate: Rate, old: FeatureCodec, new: FeatureCodec) -> Coded:
    """Code the streams of a block again, from the tables of one codec to those of another."""
    block, failures = read
    return [entry for entry, _ in block], failures, transcode([stream for _, stream in block], rate, old, new)


def _coded(
    store: Store, entries: Sequence[Entry], first: int, rate: Rate, codec: FeatureCodec
) -> Iterator[Coded]:
    """Blocks of streams, in order, with what cannot be read of them, and what they were coded to."""

    def code(read: ReadBlock) -> Coded:
        return code_block(read, rate, store.codec, codec)

    return in_order(code, store.whole_blocks(entries, STREAMS_AT_ONCE, first))


class _Work:
    """How far a store has been transcoded, kept on disk so that an interrupted run can be taken up again.

    Attributes:
        done: how many entries, in their order, need not be looked at again.
        result: what was done with them.
    """

    def __init__(
        self, path: Path, store: Store, entries: Sequence[Entry], rate: Rate, codec: FeatureCodec
    ) -> None:
        self._path, self._entries = path, entries
        self._job = {
            "store": str(store.folder.resolve()),
            "tables": [store.codec.tables_sha256, codec.tables_sha256],
            "rate": asdict(rate),
        }
        self.done, self.result = 0, TranscodeResult()
        record = self._read()
        if record:
            self.done = record["done"]
            failures = [(name, why) for name, why in record["result"].pop("failures")]
            self.result = TranscodeResult(**record["result"], failures=failures)

    def add(
        self,
        store: Store,
        block: Sequence[Entry],
        blobs: Sequence[bytes],
        unread: list[tuple[str, str]],
        failed: dict[str, str],
    ) -> None:
        """Count a block as done."""
        for entry, blob in zip(block, blobs, strict=True):
            if store.stream_place(entry) not in failed:
                self.result.streams += 1
                self.result.bytes_before += entry.bytes
                self.result.bytes_after += len(blob)
        self.result.failures += [*unread, *failed.items()]
        self.done += len(block) + len(unread)

    def save(self) -> None:
        """Write down how far it is."""
        last = self._entries[self.done - 1].name
        record = {"job": self._job, "done": self.done, "last": last, "result": asdict(self.result)}
        write_atomic(self._path, json.dumps(record).encode())

    def remove(self) -> None:
        """Forget the work: all is done."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        """The work of a run that was interrupted; None where there is none that fits."""
        try:
            record: dict[str, Any] = json.loads(self._path.read_bytes())
            done = record["done"]
            same = record["job"] == self._job and 0 < done <= len(self._entries)
            return record if same and self._entries[done - 1].name == record["last"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _require_possible(store: Store, entries: Sequence[Entry], rate: Rate, codec: FeatureCodec) -> None:
    """Find out before anything is written what would stop the work later on; no stream is read for it.

    Streams of before, whose layers nobody wrote down, are read.
    """
    if rate.max_bytes is None and rate.layers == "both":
        return
    for entry in entries:
        there, aspect = _layers(store, entry)
        kept = [name for name in there if rate.layers in ("both", name)]
        if there and not kept:
            path = store.stream_path(entry)
            raise MissingLayerError(f"{path}: {rate.layers} layer: found none, expected one to keep")
        if kept and rate.max_bytes is not None:
            require_budget(rate.max_bytes, codec.smallest(kept[0], aspect))


def _layers(store: Store, entry: Entry) -> tuple[list[str], float | None]:
    """The layers and the aspect of a stream; no layers where it is damaged, which its turn will show."""
    if entry.semantic_bytes is not None and entry.layout_bytes is not None:
        sizes = {"semantic": entry.semantic_bytes, "layout": entry.layout_bytes}
        there = [name for name in LAYERS if sizes[name]]
        header = entry.bytes - sum(sizes.values())
        shaped = header > overhead(None, len(there))
        return there, entry.width / entry.height if shaped else None
    try:
        stream = store.read(entry)
    except BitstreamError:
        return [], None
    return [name for name in LAYERS if stream.payload(name) is not None], stream.aspect


def _store_there(folder: Path, codec: FeatureCodec) -> WritableStore | None:
    """The store that is there already, of the same tables."""
    if not (folder / CODEC_FILE).is_file():
        return None
    store = open_store(folder)
    if store.codec.tables_sha256 != codec.tables_sha256:
        raise ConfigError(f"store {folder} has tables of its own: transcode to a new folder")
    return store
