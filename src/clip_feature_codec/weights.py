"""The weights of torch networks: what they are, without running anything that a file may contain."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def hash_weights(network: torch.nn.Module) -> hashlib._Hash:
    """SHA-256 over names, shapes and float32 values of every tensor of a network, to be gone on with."""
    import torch

    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest
