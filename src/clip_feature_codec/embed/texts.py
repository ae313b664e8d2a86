"""What an embedder takes for texts."""

from __future__ import annotations

from collections.abc import Sequence

from clip_feature_codec.arguments import describe
from clip_feature_codec.errors import ConfigError


def list_texts(texts: str | Sequence[str]) -> list[str]:
    """One text or several, as a list.

    Raises:
        ConfigError: something in it is no text.
    """
    listed = [texts] if isinstance(texts, str) else list(texts)
    wrong = [text for text in listed if not isinstance(text, str)]
    if wrong:
        raise ConfigError(f"texts: found {describe(wrong[0])}, expected str")
    return listed
