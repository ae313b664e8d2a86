"""The list behind a search index: which segments there are, and what of the store they stand for.

It is a folder beside the store's other files. ``index.json`` names all else in it and is replaced as a whole,
so that readers always find an index that belongs together. It is a cache: whatever is wrong with it, it is
made again from the streams.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.semantic.coarse import CoarseFrame
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import CodecError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.store.search.segments import ENDING, Segment, load_frame, save_frame

_FORMAT = "clip-feature-codec search index, version 4"
_LIST = "index.json"


@dataclass(frozen=True, eq=False)
class PartIndex:
    """What the index has of a part of the store (see `store.parts`).

    Attributes:
        state: that of the part when it was brought up to date.
        segments: vectors of its entries; each number is in one of them.
        gone: of each segment, ascending places (n,) of entries that have been taken out or changed.
        failed: numbers of entries whose streams could not be decoded.
    """

    state: str = ""
    segments: tuple[Segment, ...] = ()
    gone: tuple[NDArray[np.intp], ...] = ()
    failed: tuple[int, ...] = ()

    @property
    def pictures(self) -> int:
        """Entries that can be found."""
        return sum(map(len, self.segments)) - sum(map(len, self.gone))


@dataclass(frozen=True, eq=False)
class IndexFile:
    """A whole index.

    Attributes:
        space: CLIP space of the vectors.
        tables_sha256: identity of the tables that their streams are coded with.
        frame: what the coarse codes mean.
        fitted: how many vectors there were when the frame was fitted.
        parts: of the store, by name.
        frame_name: of the file with the frame; empty where there is none yet.
    """

    space: ClipSpace
    tables_sha256: str
    frame: CoarseFrame
    fitted: int
    parts: dict[str, PartIndex] = field(default_factory=dict)
    frame_name: str = ""

    @property
    def pictures(self) -> int:
        """Entries that can be found."""
        return sum(part.pictures for part in self.parts.values())

    def saved(self, folder: Path) -> IndexFile:
        """Write the list, the last thing of an index, when its segments are there. Raises OSError."""
        index = self if self.frame_name else replace(self, frame_name=save_frame(self.frame, folder))
        record = {
            "format": _FORMAT,
            "space": index.space.to_json(),
            "tables_sha256": index.tables_sha256,
            "fitted": index.fitted,
            "frame": index.frame_name,
            "parts": {part: _to_json(found) for part, found in index.parts.items()},
        }
        write_atomic(folder / _LIST, json.dumps(record).encode("ascii"), durable=True)
        segments = (segment for part in index.parts.values() for segment in part.segments)
        known = {index.frame_name, *(segment.name for segment in segments)}
        for stray in folder.glob(f"*{ENDING}"):  # of before, or of one that was killed
            if stray.name not in known:
                with suppress(OSError):  # some systems keep what is mapped
                    stray.unlink()
        return index

    @classmethod
    def load(cls, folder: Path) -> IndexFile:
        """Open an index; its vectors stay on the disk until they are used.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or of another version.
        """
        try:
            return cls._parse(folder, json.loads((folder / _LIST).read_bytes()))
        except (LookupError, TypeError, AttributeError, RecursionError, CodecError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    @classmethod
    def _parse(cls, folder: Path, record: Any) -> IndexFile:
        if record["format"] != _FORMAT:
            raise ValueError(f"format: found {record['format']!r}, expected {_FORMAT!r}")
        space, fitted = ClipSpace.from_json(record["space"]), record["fitted"]
        frame = load_frame(folder, _file_name(record["frame"]))
        if frame.dim != space.dim or type(fitted) is not int:
            raise ValueError(f"found {frame.dim} channels and {fitted!r} vectors")
        parts = {
            name: PartIndex(
                str(part["state"]),
                tuple(
                    Segment.load(folder, _file_name(s["name"]), s["rows"], frame) for s in part["segments"]
                ),
                tuple(_places(s["gone"], s["rows"]) for s in part["segments"]),
                tuple(map(int, part["failed"])),
            )
            for name, part in record["parts"].items()
        }
        return cls(space, str(record["tables_sha256"]), frame, fitted, parts, record["frame"])

    def segments(self, names: list[str]) -> Iterator[tuple[int, Segment, NDArray[np.intp]]]:
        """The segments of parts: place of the part's name among these, segment, places that are gone."""
        for place, name in enumerate(names):
            part = self.parts.get(name, PartIndex())
            for segment, gone in zip(part.segments, part.gone, strict=True):
                yield place, segment, gone


def _to_json(part: PartIndex) -> dict[str, Any]:
    segments = [
        {"name": segment.name, "rows": len(segment), "gone": gone.tolist()}
        for segment, gone in zip(part.segments, part.gone, strict=True)
    ]
    return {"state": part.state, "segments": segments, "failed": list(part.failed)}


def _file_name(name: Any) -> str:
    if not isinstance(name, str) or not name.endswith(ENDING) or Path(name).name != name:
        raise ValueError(f"found {name!r}, expected the name of a file")
    return name


def _places(places: Any, rows: int) -> NDArray[np.intp]:
    found = np.array(places, np.intp)
    if found.ndim != 1 or (len(found) and (found[0] < 0 or found[-1] >= rows or (np.diff(found) < 1).any())):
        raise ValueError("gone: found places that are none of the segment's")
    return found
