"""The weights of networks: what they are, without running anything that a file may contain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hash_weights(weights: Mapping[str, NDArray[Any]]) -> hashlib._Hash:
    """SHA-256 over names, shapes and float32 values of every tensor of a network, to be gone on with."""
    digest = hashlib.sha256()
    for key, value in sorted(weights.items()):
        digest.update(f"{key} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value, np.float32).data)
    return digest
