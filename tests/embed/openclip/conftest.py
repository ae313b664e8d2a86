from __future__ import annotations

from pathlib import Path

import pytest
from clip_files import Weights, write_config
from safetensors.torch import load_file

from samples import TINY_CLIP


@pytest.fixture(scope="module")
def weights(tiny_clip: Path) -> Weights:
    found: Weights = load_file(tiny_clip / "open_clip_model.safetensors")
    return found


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The tiny CLIP's architecture as a .json file; its preprocessing is then open_clip's default."""
    return write_config(tmp_path / "tiny-for-tests.json", TINY_CLIP)
