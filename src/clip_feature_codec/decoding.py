"""Every stream of a store to a picture file; killed at any moment, the same work goes on where it was."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import note_of, save_image
from clip_feature_codec.parallel import in_order
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store

_STREAMS_AT_ONCE = 256

Deferred = Callable[[], Image.Image]
"""Gives a picture, in whatever thread it is called: it is there already, or made then."""

Show = Callable[[Sequence[Stream]], Iterable[Deferred]]
"""Gives the pictures of streams, in order."""


def decode_store(
    store: Store,
    entries: Sequence[Entry],
    out_dir: Path,
    show: Show,
    made_with: str,
    *,
    layer: str | None = None,
    progress: Progress = silent,
) -> list[tuple[str, str]]:
    """Write the pictures of streams as PNG files, under their names in the store, on all cores.

    Each file notes what it was made from. One that is there, made from the same stream in the same way, is
    left as it is.

    Args:
        store: the streams.
        entries: those to be decoded.
        out_dir: the folder.
        show: gives the pictures of streams, in order.
        made_with: what the pictures depend on beside their streams.
        layer: streams without it are failures.
        progress: told of the pictures that are written.

    Returns:
        (path, reason) of the streams that cannot be decoded, and of files that cannot have their names.
    """
    failures: list[tuple[str, str]] = []
    done = 0

    def pictures() -> Iterator[tuple[Path, str, Deferred]]:
        nonlocal done
        for start in range(0, len(entries), _STREAMS_AT_ONCE):
            block = list(entries[start : start + _STREAMS_AT_ONCE])
            wanted = [entry for entry in block if note_of(_file(out_dir, entry)) != _note(entry, made_with)]
            whole = list(_with_layer(store, wanted, layer, failures))
            done += len(block) - len(whole)  # those that need not be made, and those that cannot
            # What shows them may be refused, in one line: nothing is told of progress before that.
            shown = show([stream for _, stream in whole]) if whole else iter(())
            progress("decoding", done, len(entries), len(failures))
            for (entry, _), picture in zip(whole, shown, strict=True):
                yield _file(out_dir, entry), _note(entry, made_with), picture

    def save(made: tuple[Path, str, Deferred]) -> tuple[str, str] | None:
        path, note, picture = made
        try:
            save_image(picture(), path, note=note)
        except ImageError as error:
            if not _is_of_the_name(error.__cause__):
                raise
            return str(path), str(error)
        return None

    for failure in in_order(save, pictures()):
        done += 1
        failures += [failure] if failure else []
        progress("decoding", done, len(entries), len(failures))
    return failures


def _is_of_the_name(error: BaseException | None) -> bool:
    """Whether a file cannot be written since it has this name, where others can."""
    of_names = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
    return isinstance(error, OSError) and error.errno in of_names


def _file(out_dir: Path, entry: Entry) -> Path:
    return out_dir / f"{entry.name}.png"


def _note(entry: Entry, made_with: str) -> str:
    return f"{entry.sha256} {made_with}"


def _with_layer(
    store: Store, entries: Sequence[Entry], layer: str | None, failures: list[tuple[str, str]]
) -> Iterator[tuple[Entry, Stream]]:
    """The streams that are whole and have a layer; the others are failures."""
    for entry, stream in store.whole_streams(failures, entries):
        if layer is None or stream.payload(layer) is not None:
            yield entry, stream
        else:
            path = str(store.stream_path(entry))
            failures.append((path, f"{path}: there is no {layer} layer to show"))
