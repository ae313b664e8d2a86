"""A store as the server's clients see it: as it was at some moment, in pages, each picture by an id."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.errors import BitstreamError, StoreError
from clip_feature_codec.files import encodable
from clip_feature_codec.links import to_base64url
from clip_feature_codec.names import MANIFEST_FILE, OLD_MANIFEST_FILE, PACKED_FILE
from clip_feature_codec.serve.refusals import Refusal
from clip_feature_codec.store.manifest import Entry, Totals
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.protocol import Store
from clip_feature_codec.store.verifying import layer_bytes

_VIEWS = 4


@dataclass(frozen=True)
class View:
    """A store at some moment.

    Attributes:
        revision: changes with whatever is written to the store.
        entries: its pictures then.
    """

    revision: str
    entries: Sequence[Entry]


class Shelf:
    """A store that threads read one at a time, whoever writes to it meanwhile.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = RLock()
        self._open()
        self._views: OrderedDict[str, View] = OrderedDict()
        self._sums: tuple[str, Totals] | None = None

    def _open(self) -> None:
        self._files = _stamps(self.folder).keys()
        self.store: Store = open_store(self.folder)

    def view(self, revision: str | None = None) -> View:
        """The store as it is now, or as it was a short while ago.

        Raises:
            Refusal: that was too long ago.
        """
        with self._lock:
            if revision is not None:
                if revision not in self._views:
                    raise Refusal(409, "the store has changed: ask for /api/store again")
                self._views.move_to_end(revision)
                return self._views[revision]
            now = revision_of(self.folder)
            if now not in self._views:
                if _stamps(self.folder).keys() != self._files:  # it has another kind of manifest now
                    self._open()
                self._views[now] = View(now, self.store.entries)
                while len(self._views) > _VIEWS:
                    self._views.popitem(last=False)
            return self._views[now]

    def totals(self) -> Totals:
        """Sums over all pictures as they are now."""
        with self._lock:
            now = revision_of(self.folder)
            if self._sums is None or self._sums[0] != now:
                self._sums = now, layer_bytes(self.store)
            return self._sums[1]

    def page(self, view: View, offset: int, limit: int) -> list[Entry]:
        """Some entries of a view, in its order.

        Raises:
            Refusal: some of them have been taken out of the store since.
        """
        with self._lock:
            try:
                return list(view.entries[offset : offset + limit])
            except StoreError:
                raise Refusal(409, "the store has changed: ask for /api/store again") from None

    def entry(self, picture_id: str) -> Entry:
        """The entry of a picture.

        Raises:
            Refusal: there is none in the store.
        """
        name = _name_of(picture_id)
        with self._lock:
            entry = None if name is None else self.store.named(name)
        if entry is None or entry.name != name:
            raise Refusal(404, "there is no such picture in the store")
        return entry

    def blob(self, entry: Entry) -> bytes:
        """A picture's stream, checked.

        Raises:
            Refusal: it is damaged or gone.
        """
        with self._lock:
            try:
                return self.store.blob(entry)
            except BitstreamError:
                raise Refusal(404, f"{encodable(entry.name)}: its stream is damaged or gone") from None

    def blobs(self, entries: Sequence[Entry]) -> list[bytes]:
        """The streams of several; nothing for one that is damaged or gone."""
        found = []
        for entry in entries:
            try:
                found.append(self.blob(entry))
            except Refusal:
                found.append(b"")
        return found

    def stream(self, entry: Entry) -> Stream:
        """A picture's stream, taken apart.

        Raises:
            BitstreamError: it is no stream of the store's codec.
            Refusal: it is damaged or gone.
        """
        return self.store.codec.parse(self.blob(entry))

    def vector(self, entry: Entry) -> NDArray[np.float32]:
        """A picture's vector: float32 (D,).

        Raises:
            BitstreamError: its stream has none, or is no stream of the store's codec.
            Refusal: it is damaged or gone.
        """
        vector: NDArray[np.float32] = self.store.codec.vectors([self.stream(entry)])[0]
        return vector


def picture_of(entry: Entry) -> dict[str, Any]:
    """What JSON says of a picture, ``Picture`` in the description."""
    return {
        "id": id_of(entry),
        "name": encodable(entry.name),
        "width": entry.width,
        "height": entry.height,
        "bytes": entry.bytes,
        "semantic_bytes": entry.semantic_bytes,
        "layout_bytes": entry.layout_bytes,
        "source_bytes": entry.source_bytes,
    }


def id_of(entry: Entry) -> str:
    """What a picture is called in addresses: its name in base64url, so that nothing in it leads anywhere."""
    return to_base64url(entry.name.encode("utf-8", "surrogatepass"))


def _name_of(picture_id: str) -> str | None:
    """The name that `id_of` was made of; None where it was made of none."""
    try:
        padded = picture_id + "=" * (-len(picture_id) % 4)
        return base64.b64decode(padded, b"-_", validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return None


def revision_of(folder: Path) -> str:
    """What changes when a store does, read off its manifest's file: cheap, however large it is."""
    return hashlib.blake2b(repr(_stamps(folder)).encode(), digest_size=8).hexdigest()


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for name in (MANIFEST_FILE, OLD_MANIFEST_FILE, PACKED_FILE):
        try:
            status = (folder / name).stat()
        except FileNotFoundError:
            continue
        found[name] = status.st_size, status.st_mtime_ns
    return found
