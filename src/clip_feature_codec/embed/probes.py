"""Whether two models are the same one in two formats: found out by embedding pictures with both."""

from __future__ import annotations

import numpy as np
from PIL import Image

from clip_feature_codec.codec.space import SameSpace
from clip_feature_codec.embed.protocol import Embedder, measured
from clip_feature_codec.errors import SpaceMismatchError

LEAST_COSINE = 1 - 1e-5
"""Of two vectors that are equal but for the order in which sums were taken in float32."""

_SHAPES = ((224, 224), (500, 375), (375, 500), (333, 512), (64, 48), (31, 97), (640, 200), (225, 227))


def probe_pictures() -> list[Image.Image]:
    """Pictures, two of each of several shapes: smooth ones, and noise, which shows how it is resized."""
    rng = np.random.default_rng(0)
    pictures = []
    for width, height in _SHAPES:
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        pictures.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
        pictures.append(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    return pictures


def prove_same(known: Embedder, other: Embedder) -> SameSpace:
    """Find out that another model, with its own preprocessing, gives the vectors of a known one.

    Their lengths must agree as well, since some decoders want vectors as the model makes them.

    Args:
        known: the model of some tables.
        other: the model that may be the same.

    Raises:
        SpaceMismatchError: it is another one; with the least cosine that was found.
    """
    between = f"{other.space.label} is not {known.space.label}"
    if known.dim != other.dim:
        raise SpaceMismatchError(f"{between}: its vectors have {other.dim} numbers, not {known.dim}")
    pictures = probe_pictures()
    (ours, our_lengths), (theirs, their_lengths) = (
        measured(model, np.stack([model.preprocess(picture) for picture in pictures]))
        for model in (known, other)
    )
    least = float((ours.astype(np.float64) * theirs).sum(axis=1).min())
    if least < LEAST_COSINE:
        raise SpaceMismatchError(f"{between}: a probe picture's vectors have a cosine of {least:.6f}")
    if our_lengths is not None and their_lengths is not None:
        ratio = float(np.abs(their_lengths / our_lengths - 1).max())
        if ratio > 1e-3:
            raise SpaceMismatchError(f"{between}: a probe picture's vectors differ in length by {ratio:.1%}")
    return SameSpace(
        other.space.fingerprint, f"{other.space.model}/{other.space.pretrained}", least, len(pictures)
    )
