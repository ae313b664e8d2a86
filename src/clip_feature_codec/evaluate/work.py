"""Where an evaluation keeps what it has done, so that it goes on after a kill, and the pictures it shows."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clip_feature_codec.errors import StoreError
from clip_feature_codec.evaluate.results import PictureKey
from clip_feature_codec.files import write_atomic

_DATA = "data"
_PICTURE = "picture"


@dataclass
class Finding:
    """What one series gave for one batch; for `results.ORIGINAL` what the pictures themselves are.

    Attributes:
        data: plain values: ``rows`` or ``images``, and ``failures`` as [stream, reason, series].
        arrays: vectors of the pictures, by name, in the order of the rows.
        pictures: WebP files for reports.
    """

    data: dict[str, list[Any]]
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    pictures: dict[PictureKey, bytes] = field(default_factory=dict)


class Part:
    """What one series gave for one chunk of pictures: plain data and arrays, in one file.

    Attributes:
        data: JSON-able.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with safe_open(path, "np") as file:
            self.data: Any = json.loads(file.metadata()[_DATA])
            self._names = set(file.keys())

    def array(self, name: str) -> NDArray[Any]:
        """Read one array."""
        with safe_open(self._path, "np") as file:
            found: NDArray[Any] = file.get_tensor(name)
        return found

    def pictures(self) -> list[PictureKey]:
        """The pictures in this part."""
        prefix = _PICTURE + " "
        found = (json.loads(name.removeprefix(prefix)) for name in self._names if name.startswith(prefix))
        return [(name, series, budget) for name, series, budget in found]


class WorkFolder:
    """Finished parts of an evaluation: one file for each chunk of pictures and each series.

    Attributes:
        folder: where they lie. Its name is a hash of ``identity``, so that nothing is taken for the
            beginning of another evaluation.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]
        self._lock = FileLock(self.folder.with_suffix(".lock"))

    def part(self, chunk: int, series: str) -> Part | None:
        """A finished part; None where it is not done yet, or its file is damaged."""
        path = self._path(chunk, series)
        try:
            return Part(path) if path.is_file() else None
        except (SafetensorError, ValueError, KeyError, TypeError):
            return None

    def save(self, chunk: int, series: str, finding: Finding) -> None:
        """Write a part whole or not at all.

        Raises:
            StoreError: the folder cannot be written.
        """
        tensors: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(array) for name, array in finding.arrays.items()
        }
        for key, file in finding.pictures.items():
            tensors[f"{_PICTURE} {json.dumps(key)}"] = np.frombuffer(file, np.uint8)
        try:
            write_atomic(self._path(chunk, series), save(tensors, {_DATA: json.dumps(finding.data)}))
        except OSError as error:
            raise self._unwritable(error) from None

    def lock(self) -> None:
        """Keep other processes from the same evaluation until `unlock` or `remove`.

        Raises:
            StoreError: one is at it already, or the folder cannot be written.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.folder}: another process is at this very evaluation: wait for it"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None

    def unlock(self) -> None:
        """Let others go on with what is done."""
        self._lock.release(force=True)

    def remove(self) -> None:
        """Forget it all, once the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.unlock()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.folder}: cannot be written: {error.strerror} (name another folder with --work)"
        )

    def _path(self, chunk: int, series: str) -> Path:
        return self.folder / f"{chunk:06}-{hashlib.sha256(series.encode()).hexdigest()[:16]}.safetensors"


class KeptPictures(Mapping[PictureKey, bytes]):
    """The WebP files of all parts, each read when it is asked for."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self._parts = {key: part for part in parts for key in part.pictures()}

    def __getitem__(self, key: PictureKey) -> bytes:
        return bytes(self._parts[key].array(f"{_PICTURE} {json.dumps(key)}").tobytes())

    def __iter__(self) -> Iterator[PictureKey]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
