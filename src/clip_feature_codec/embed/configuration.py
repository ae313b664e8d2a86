"""Configurations that lie beside a model's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clip_feature_codec.errors import ModelError


def read_json(path: Path, what: str = "") -> dict[str, Any]:
    """Read a configuration.

    Args:
        path: the file.
        what: what stands before its name in messages, with a space.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{what}{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}{path} is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{what}{path}: found no object, expected one")
    return content
