"""A store copied to one of another kind: to Parquet shards, or to a folder of streams."""

from __future__ import annotations

import shutil
from pathlib import Path

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.files import atomic_path
from clip_feature_codec.names import CODEC_FILE, DECODER_FILE
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.locking import exclusive, remove_strays
from clip_feature_codec.store.opening import create_store, is_packed, open_store
from clip_feature_codec.store.protocol import Store

_STREAMS_AT_ONCE = 4096


def copy_store(
    store: Store, out_dir: Path, *, packed: bool, progress: Progress = silent
) -> tuple[int, list[tuple[str, str]]]:
    """Copy streams as they are, and the trained decoder, to another store.

    What is there already is left alone, so that an interrupted copy goes on, and a second one adds what is
    new. Pictures keep their names where no other picture has them there.

    Args:
        store: what is copied.
        out_dir: the other store; one that is there has the same tables.
        packed: which kind the other is.
        progress: told of the streams that are done.

    Returns:
        How many streams were copied, and (path, reason) of those that are damaged or cannot be written.

    Raises:
        ConfigError: the two are one, or the store that is there is of the other kind or has other tables.
    """
    if out_dir.resolve() == store.folder.resolve():
        raise ConfigError(f"{out_dir}: found the store itself, expected another folder")
    with exclusive(out_dir):
        remove_strays(out_dir)
        if not (out_dir / CODEC_FILE).is_file():
            target = create_store(out_dir, store.codec, packed=packed)
        else:
            target = open_store(out_dir)
            if is_packed(out_dir) != packed:
                kinds = ("a packed store", "a folder of streams")
                raise ConfigError(f"{out_dir}: found {kinds[packed]}, expected {kinds[not packed]}")
            if target.codec.tables_sha256 != store.codec.tables_sha256:
                raise ConfigError(f"store {out_dir} has tables of its own: copy to a new folder")
        entries, copied, is_first = store.entries, 0, not len(target)
        failures: list[tuple[str, str]] = []
        progress("copying", 0, len(entries))
        for start in range(0, len(entries), _STREAMS_AT_ONCE):
            block = list(entries[start : start + _STREAMS_AT_ONCE])
            new = [e for e in block if is_first or not target.has_from(store, e, e.sha256)]
            whole = list(store.whole_streams(failures, new))
            failed = target.add_from(
                store, [entry for entry, _ in whole], [stream.blob for _, stream in whole]
            )
            failures += failed
            copied += len(whole) - len(failed)
            progress("copying", start + len(block), len(entries), len(failures))
        target.finish()
        _copy_decoder(store.folder, out_dir)
    return copied, failures


def _copy_decoder(folder: Path, out_dir: Path) -> None:
    decoder = folder / DECODER_FILE
    if decoder.is_file():
        with atomic_path(out_dir / DECODER_FILE) as temporary:
            shutil.copyfile(decoder, temporary)
