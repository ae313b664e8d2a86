"""Pictures and words to CLIP vectors, by whichever kind of model; the only part that imports open_clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_feature_codec.embed.deferred import DeferredEmbedder
from clip_feature_codec.embed.factory import differentiable_embedder_for, embedder_for, load_embedder
from clip_feature_codec.embed.protocol import DifferentiableEmbedder, Embedder, Preprocess, measured

if TYPE_CHECKING:
    from clip_feature_codec.embed.openclip.embedder import ClipEmbedder

__all__ = [
    "ClipEmbedder",
    "DeferredEmbedder",
    "DifferentiableEmbedder",
    "Embedder",
    "Preprocess",
    "differentiable_embedder_for",
    "embedder_for",
    "load_embedder",
    "measured",
]


def __getattr__(name: str) -> Any:
    # The factory loads torch and open_clip when a model of theirs is asked for, and this must not before.
    if name == "ClipEmbedder":
        from clip_feature_codec.embed.openclip.embedder import ClipEmbedder

        return ClipEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
