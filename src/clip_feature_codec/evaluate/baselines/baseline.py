"""What every codec that ours is compared with can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from PIL import Image

Settings = dict[str, Any]
"""How a codec is set for one file: a flat dictionary that JSON can hold."""


class Baseline(ABC):
    """A codec that ours is compared with, at its best under each limit.

    Attributes:
        name: as in options and results.
        title: as written in reports.
        kind: ``classic`` (thumbnails), ``hash`` (BlurHash and the like) or ``external``.
        counts: what must not exceed a limit: the whole ``file`` or its ``payload`` without the container.
        version: of the library or program, as it names itself.
        parameters: all that `search` tries, JSON-able: other parameters may find other files.
        peak_bytes: the most memory that the last program run took; None where no program is run.
    """

    name: str
    title: str
    kind: Literal["classic", "hash", "external"]
    counts: Literal["file", "payload"] = "file"
    version: str
    parameters: Mapping[str, Any]
    peak_bytes: int | None = None

    @abstractmethod
    def search(self, original: Image.Image, limits: Sequence[int]) -> list[Settings | None]:
        """Find the settings of the best file for each limit, by PSNR of the decoded picture.

        Args:
            original: RGB.
            limits: bytes; in any order.

        Returns:
            Settings for each limit, None where no file is so small.
        """

    @abstractmethod
    def encode(self, original: Image.Image, settings: Settings) -> bytes:
        """Make the file that `search` found, byte for byte the same."""

    @abstractmethod
    def payload(self, data: bytes) -> int:
        """Count the bytes of a file without container and headers."""

    @abstractmethod
    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """Turn a file into an RGB picture of (width, height) pixels; Lanczos brings it to that size."""

    @abstractmethod
    def describe(self, settings: Settings) -> str:
        """Say in words how the codec was set, such as ``24 px, quality 35``."""

    def counted(self, data: bytes) -> int:
        """Count the bytes of a file that must not exceed a limit."""
        return self.payload(data) if self.counts == "payload" else len(data)
