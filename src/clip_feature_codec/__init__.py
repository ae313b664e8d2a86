"""clip-feature-codec: pictures as CLIP features in a few hundred bytes, painted again by diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_feature_codec.api import ClipCodec

__all__ = ["ClipCodec", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # ClipCodec is imported at its first use: importing the package alone loads neither torch nor open_clip.
    if name == "ClipCodec":
        from clip_feature_codec.api import ClipCodec

        return ClipCodec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
