"""What names of sources look like; patterns are ``{000..099}``, ``{a,b}``, and globs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clip_feature_codec.places import is_archive, is_url

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MOST = 1_000_000


def is_pattern(name: str) -> bool:
    """Whether a name has braces or the signs of a glob."""
    return _BRACES.search(name) is not None or is_glob(name)


def is_glob(name: str) -> bool:
    """Whether a name has ``*``, ``?`` or ``[``; a URL's query is none."""
    return any(sign in name for sign in "*[") or ("?" in name and not name.startswith("http"))


def is_source(name: str) -> bool:
    """Whether a name means a source of pictures, and not a single picture or stream."""
    path = Path(name)
    return is_url(name) or is_archive(name) or path.is_dir() or (is_pattern(name) and not path.exists())


def expand_braces(name: str) -> Iterator[str]:
    """All names that a name with braces means: ``{08..10}`` is 08, 09, 10, and ``{a,b}`` is a, b.

    Raises:
        ValueError: there are more than a million numbers, or the last is below the first.
    """
    found = _BRACES.search(name)
    if found is None:
        yield name
        return
    first, last, words = found.groups()
    if words is not None:
        inside = words.split(",")
    elif not 0 <= int(last) - int(first) < _MOST:
        raise ValueError(f"{found[0]}: expected at most {_MOST:,} numbers, the smaller one first")
    else:
        inside = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    for text in inside:
        yield from expand_braces(name[: found.start()] + text + name[found.end() :])
