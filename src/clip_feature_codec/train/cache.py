"""Pictures at their training size, kept from the first time that they are read.

They lie in files of many rows, a row for each picture of the store, by its place in it. A row ends in a
checksum of its content and of what it was made from, so that a row that is not there yet, was torn by a kill,
or belongs to another picture is never taken for one. Any number of processes read and write rows at once.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import StoreError, reason
from clip_feature_codec.files import MAKER

_ROWS = 4096  # in a file: 800 MB of pictures of 256 pixels
_CHECKSUM = 8  # bytes
_HEAD = f"{MAKER} pictures\n".encode().ljust(64)
"""What files begin with, so that they are known for what they are."""


class PictureCache:
    """Square pictures of one size in a folder; can be pickled.

    Args:
        folder: where they are kept; made when the first is.
        size: side of the pictures in pixels.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._length = size * size * 3
        self._files: dict[int, tuple[int, int]] = {}

    def get(self, row: int, made_from: str) -> NDArray[np.uint8] | None:
        """The picture of a row, (S, S, 3), if it is there.

        Args:
            row: a picture's place in the store.
            made_from: what it was made from; another text, another picture.
        """
        try:
            file, offset = self._open(row)
            found = os.pread(file, self._length + _CHECKSUM, offset)
        except OSError:
            return None
        picture = found[: self._length]
        if found[self._length :] != _checksum(picture, made_from):
            return None
        return np.frombuffer(picture, np.uint8).reshape(self._size, self._size, 3).copy()

    def put(self, row: int, made_from: str, picture: NDArray[np.uint8]) -> None:
        """Keep the picture of a row, uint8 (S, S, 3).

        Raises:
            StoreError: it cannot be written.
        """
        content = picture.tobytes()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file, offset = self._open(row, create=True)
            os.pwrite(file, content + _checksum(content, made_from), offset)
        except OSError as error:
            raise StoreError(f"{self._folder}: cannot be written: {reason(error)}") from None

    def _open(self, row: int, create: bool = False) -> tuple[int, int]:
        """The file of a row, opened by this very process, and where in it the row begins.

        Args:
            row: a picture's place in the store.
            create: make the file; what others have put in its place is written over.

        Raises:
            OSError: it cannot be opened, or it is not one of ours.
        """
        number, place = divmod(row, _ROWS)
        process, file = self._files.get(number, (0, -1))
        if process != os.getpid():
            file = os.open(self._path(number), os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
            if os.pread(file, len(_HEAD), 0) != _HEAD:
                if not create:
                    os.close(file)
                    raise FileNotFoundError(self._path(number))
                os.pwrite(file, _HEAD, 0)
            self._files[number] = os.getpid(), file
        return file, len(_HEAD) + place * (self._length + _CHECKSUM)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._size}-{number:05}.rgb"

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_files": {}}


def _checksum(picture: bytes, made_from: str) -> bytes:
    digest = hashlib.blake2b(made_from.encode("utf-8", "surrogatepass"), digest_size=_CHECKSUM)
    digest.update(picture)
    return digest.digest()
