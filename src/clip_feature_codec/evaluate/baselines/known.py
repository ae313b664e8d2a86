"""Which codecs ours can be compared with, by the names that options and results have for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.baselines.baseline import Baseline

RESERVED = ("layout", "original")
"""Names that mean something else in results, as ``clp@8`` and the like do."""


def load_baselines(names: Sequence[str], externals: Sequence[Path] = ()) -> list[Baseline]:
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
    from clip_feature_codec.evaluate.baselines.program import Program

    known = built_in()
    chosen: dict[str, Baseline] = {}
    for name in names:
        if name != "all" and name not in known:
            raise ConfigError(f"no baseline is called {name!r}: there are all, {', '.join(known)}")
        for each in known if name == "all" else [name]:
            if each not in chosen:
                chosen[each] = known[each]()
    for path in externals:
        external = Program.load(path)
        if external.name in {*known, *chosen, *RESERVED} or external.name.startswith("clp@"):
            raise ConfigError(f"{path}: the name {external.name!r} is taken: give it another one")
        chosen[external.name] = external
    return list(chosen.values())


def built_in() -> dict[str, Callable[[], Baseline]]:
    """Give every codec that comes with the package, by name, to be made when it is wanted."""
    from clip_feature_codec.evaluate.baselines.hashes import BlurHash, ThumbHash
    from clip_feature_codec.evaluate.baselines.thumbnails import Avif, Jpeg, Jxl, WebP

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
