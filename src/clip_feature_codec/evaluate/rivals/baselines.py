"""Other ways to keep a picture in a few bytes: what every one of them can do, and which there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from clip_feature_codec.errors import ConfigError

RESERVED = ("layout", "original")
"""Names that mean something else in results, as ``clp@8`` and the like do."""

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


def baselines(names: Sequence[str], externals: Sequence[Path] = ()) -> list[Baseline]:
    """Make codecs ready by their names.

    Args:
        names: of `built_in`; ``all`` stands for every one.
        externals: descriptions of programs (see docs/external-codecs.md).

    Returns:
        The codecs in that order, each once.

    Raises:
        ConfigError: a name is unknown or given twice by externals, a library is missing, or a description
            cannot be used.
    """
    from clip_feature_codec.evaluate.rivals.external import External

    known = built_in()
    chosen: dict[str, Baseline] = {}
    for name in names:
        if name != "all" and name not in known:
            raise ConfigError(f"no baseline is called {name!r}: there are all, {', '.join(known)}")
        for each in known if name == "all" else [name]:
            if each not in chosen:
                chosen[each] = known[each]()
    for path in externals:
        external = External.load(path)
        if external.name in {*known, *chosen, *RESERVED} or external.name.startswith("clp@"):
            raise ConfigError(f"{path}: the name {external.name!r} is taken: give it another one")
        chosen[external.name] = external
    return list(chosen.values())


def built_in() -> dict[str, Callable[[], Baseline]]:
    """Give every codec that comes with the package, by name, to be made when it is wanted."""
    from clip_feature_codec.evaluate.rivals.hashes import BlurHash, ThumbHash
    from clip_feature_codec.evaluate.rivals.thumbnails import Avif, Jpeg, Jxl, WebP

    return {
        "jpeg": Jpeg,
        "webp": WebP,
        "avif": Avif,
        "jxl": Jxl,
        "blurhash": BlurHash,
        "thumbhash": ThumbHash,
        "jpeg:payload": lambda: Jpeg("payload"),
        "webp:payload": lambda: WebP("payload"),
        "avif:payload": lambda: Avif("payload"),
    }
