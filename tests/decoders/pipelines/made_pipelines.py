"""What belongs to a tiny pipeline in the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Made:
    """A pipeline's folder as a decoder's name, and a store beside it whose CLIP model is the pipeline's."""

    kind: str
    name: str
    photos: Path
    store: Path
