"""What is truly on the pictures of a store: from a file of names, or from the folders that they lie in."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from clip_feature_codec.evaluate.metrics.labels import Labels
from clip_feature_codec.evaluate.metrics.recognition import KnownClasses
from clip_feature_codec.store.manifest import Entry

_COLUMNS = ("image", "class")

_log = logging.getLogger(__name__)


def read_class_names(path: Path) -> dict[str, str]:
    """Read what is on each picture from a table with columns ``image`` and ``class``.

    Args:
        path: a ``.parquet`` file, or else CSV in UTF-8 (names of files that are not UTF-8 as they are).

    Returns:
        A class's name, or synonyms behind commas, by the picture's.

    Raises:
        ConfigError: it cannot be read, or lacks a column.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    columns = _parquet(data, path) if path.suffix.lower() == ".parquet" else _csv(data)
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise ConfigError(f"{path}: no column {missing[0]!r}: it has {found}; image and class are needed")
    pairs = zip(*(columns[name] for name in _COLUMNS), strict=True)
    return {str(image): str(name) for image, name in pairs if image is not None and name}


def known_classes(
    entries: Sequence[Entry], classifier: Classifier, names: Mapping[str, str] | None
) -> KnownClasses:
    """Find the classes of a store's pictures.

    Args:
        entries: the pictures.
        classifier: whose classes they are to be.
        names: what is on a picture, by its name in the store, its file's name or its path in the manifest;
            what is none of the classifier's labels is logged, and not known. None: a folder that a picture
            lies in and that is called as a class is (the innermost one) says it, if there is such a folder.

    Raises:
        ConfigError: there are names, but no labels to find them among, or not one of them is a label's and
            of a picture of this store.
    """
    labels = classifier.labels
    if labels is None:
        if names is not None:
            raise ConfigError("true classes need the judge's labels: name their file with --judge-labels")
        return KnownClasses({}, len(entries))
    if names is None:
        found = {entry.name: _of_folder(entry, labels) for entry in entries}
    else:
        given = {entry.name: names[key] for entry in entries for key in _keys(entry) if key in names}
        found = {image: labels.classes_of(name) for image, name in given.items()}
        _remark(given, found, names, entries)
    return KnownClasses({image: classes for image, classes in found.items() if classes}, len(entries))


def _remark(
    given: Mapping[str, str],
    found: Mapping[str, frozenset[int]],
    names: Mapping[str, str],
    entries: Sequence[Entry],
) -> None:
    """Say which of the names ``given`` to pictures are no label's; refuse if all are."""
    if entries and not given:
        raise ConfigError(
            f"no picture of the store is in the file of classes: its first is {next(iter(names), '')!r}, the "
            f"store's {entries[0].name!r}"
        )
    foreign = [image for image, classes in found.items() if not classes]
    if foreign:
        words = f"such as {given[foreign[0]]!r} of {foreign[0]}"
        if len(foreign) == len(found):
            raise ConfigError(f"no class in the file of classes is one of the judge's labels, {words}")
        _log.warning("%d of %d classes are none of the judge's labels, %s", len(foreign), len(found), words)


def _of_folder(entry: Entry, labels: Labels) -> frozenset[int]:
    """The classes that a picture's folder is called after, the innermost first; none where none is."""
    meant = (labels.classes_of(part) for part in reversed(PurePosixPath(entry.name).parent.parts))
    return next((classes for classes in meant if classes), frozenset())


def _keys(entry: Entry) -> tuple[str, ...]:
    """What a table may call a picture."""
    source = PurePosixPath(entry.source)
    return entry.name, f"{entry.name}{source.suffix}", source.name, entry.source


def _csv(data: bytes) -> dict[str, list[str]]:
    lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")))
    if not lines:
        return {}
    head, *rows = lines
    width = len(head)
    filled = ([*row, *[""] * width][:width] for row in rows if row)
    return dict(zip(head, map(list, zip(*filled, strict=True)), strict=False)) or {name: [] for name in head}


def _parquet(data: bytes, path: Path) -> dict[str, list[object]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not a Parquet file: {' '.join(str(error).split())[:200]}") from None
    return {name: table[name].to_pylist() for name in table.column_names if name in _COLUMNS}
