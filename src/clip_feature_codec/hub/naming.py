"""What repositories on a hub are called."""

from __future__ import annotations

import re
from pathlib import Path

HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-]+(/[\w.-]+)*))?")
_OURS = (".clp", ".json", ".safetensors", ".pt", ".npy")


def is_hub_name(text: str) -> bool:
    """Whether a text may be ``user/name`` or ``user/name@revision`` on a hub, and is nothing that is here.

    What ends as our files do is not looked for on a hub: it is one that is missing here.
    """
    return HUB_NAME.fullmatch(text) is not None and not text.endswith(_OURS) and not Path(text).exists()


def split_inside(text: str) -> tuple[str, str]:
    """Take ``user/name/inside[@revision]`` apart: the repository's name, and a path in it that may be empty.

    The name is empty where the text cannot be such a thing.
    """
    path, at, revision = text.partition("@")
    parts = path.split("/")
    repository = "/".join(parts[:2]) + at + revision
    return (repository, "/".join(parts[2:])) if HUB_NAME.fullmatch(repository) else ("", "")
