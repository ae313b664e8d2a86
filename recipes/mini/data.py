"""What all stages read: the configuration; pictures with class names, held in memory at one size."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import IMAGE_SUFFIXES, load_image, squash

CONFIG = Path(__file__).with_name("config.toml")


def read_config(path: Path) -> dict[str, Any]:
    """The tables of a configuration; what it leaves out is that of `CONFIG`."""
    return _laid_over(tomllib.loads(CONFIG.read_text()), tomllib.loads(path.read_text()))


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables within tables; all else of ``above`` replaces what ``below`` has."""
    both = {
        key: _laid_over(below[key], value) if isinstance(value, dict) and key in below else value
        for key, value in above.items()
    }
    return below | both


@dataclass(frozen=True)
class Pictures:
    """N pictures squashed to squares, each with the name of its class.

    Attributes:
        images: uint8 (N, S, S, 3).
        labels: N class names: the first of each class's synonyms.
        synonyms: every name of each class, by its first.
    """

    images: np.ndarray
    labels: list[str]
    synonyms: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.labels)


def class_names(text: str) -> list[str]:
    """A comma-separated list of synonyms as names in lower case, with spaces for underscores."""
    return [name.strip().replace("_", " ").lower() for name in text.split(",")]


def load_pictures(sources: list[Path], size: int) -> Pictures:
    """Read every picture of ``sources``, in order, squashed to ``size`` × ``size`` pixels.

    Args:
        sources: Parquet files with columns ``image`` (encoded bytes) and ``text`` (class names), or folders
            in which each picture lies in a folder named after its class.
        size: side of the square, in pixels.
    """
    images, labels, synonyms = [], [], {}
    for source in sources:
        for data, text in _rows(source):
            try:
                images.append(np.asarray(squash(load_image(data), size)))
            except ImageError as error:
                print(f"left out: {error}")
                continue
            names = class_names(text)
            labels.append(names[0])
            synonyms[names[0]] = names
    return Pictures(np.stack(images), labels, synonyms)


def as_batch(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """Pictures uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1] on ``device``."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


class Shards:
    """Arrays in shards, those read as one that have all of the names; on a GPU they are held there.

    Args:
        folder: of the files NNN-NAME.npy.
        names: which arrays.
        device: where rows are wanted.
    """

    def __init__(self, folder: Path, names: Sequence[str], device: torch.device) -> None:
        found = [
            {path.name.removesuffix(f"-{name}.npy") for path in folder.glob(f"*-{name}.npy")}
            for name in names
        ]
        self._folder, self._whole = folder, sorted(set.intersection(*found))
        self._files = {name: [np.load(file, mmap_mode="r") for file in self.files(name)] for name in names}
        self._device = device
        self._held: dict[str, torch.Tensor] = {}
        if device.type != "cpu":
            for name, files in self._files.items():
                parts = [torch.from_numpy(np.array(file)).to(device) for file in files]
                self._held[name] = torch.cat(parts)
        files = self._files[names[0]]
        self._ends = np.cumsum([len(file) for file in files])

    def files(self, name: str) -> list[Path]:
        """The files of an array, in order."""
        return [self._folder / f"{shard}-{name}.npy" for shard in self._whole]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows of every array, by name."""
        if self._held:
            index = torch.from_numpy(rows).to(self._device)
            return {name: values[index] for name, values in self._held.items()}
        shards = np.searchsorted(self._ends, rows, side="right")
        starts = np.concatenate([[0], self._ends])[shards]
        places = list(zip(shards, rows - starts, strict=True))
        return {
            name: torch.from_numpy(np.stack([files[shard][place] for shard, place in places]))
            for name, files in self._files.items()
        }


def _rows(source: Path) -> Iterator[tuple[bytes | Path, str]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield path, path.parent.name
    else:
        for batch in pq.ParquetFile(source).iter_batches(columns=["image", "text"]):
            yield from zip(batch["image"].to_pylist(), batch["text"].to_pylist(), strict=True)
