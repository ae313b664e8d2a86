"""What codes a layer: the protocol of all coders, and what those of the semantic layer do besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class LayerCoder(Protocol):
    """Rows of a layer to payloads and back. A payload does not depend on the rows beside it."""

    @property
    def smallest(self) -> int:
        """Bytes that a payload of any row fits into."""
        ...

    def step_at(self, quality: float, /) -> int:
        """The step of a quality, 0 (smallest) to 100 (best)."""
        ...

    def encode(self, rows: NDArray[Any], steps: NDArray[np.int64], /) -> list[bytes]:
        """Payloads of rows (N, ...), each at its own step (N,)."""
        ...

    def encode_to_bytes(self, rows: NDArray[Any], limits: NDArray[np.int64], /) -> list[bytes]:
        """Payloads of rows (N, ...) in at most so many bytes (N,), `smallest` or more; the best found."""
        ...

    def decode(self, payloads: Sequence[bytes], /) -> NDArray[Any]:
        """Rows (N, ...) of payloads; BitstreamError where one is no payload of ours."""
        ...

    def to_bytes(self) -> bytes:
        """Everything that decoding depends on, for a hash."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The tables as a JSON-able dictionary, from which a coder is made again."""
        ...


class SemanticCoder(LayerCoder, Protocol):
    """A profile: one way to code unit vectors, float32 (N, D)."""

    @property
    def profile(self) -> str:
        """Name of the profile, one of `bitstream.PROFILES`."""
        ...

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        ...

    def encode_to_cosine(self, rows: NDArray[np.float32], target: float, /) -> list[bytes]:
        """Payloads whose vectors have at least this cosine with ``rows``; ConfigError where one cannot."""
        ...
