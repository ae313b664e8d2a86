"""What many tests need: a tiny CLIP with weights on disk, pictures, a store, a decoder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything reads these: no test may wait for a connection; and networks have one thread, in processes
# that the tests start, too. Several on busy cores wait for each other, and give sums other last bits.
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import pytest

from browsing import chromium
from samples import TINY_CLIP, TINY_PREPROCESSING, make_picture

LONGEST = ("test_on_ray.py", "test_painting.py", "test_wall.py", "test_commands.py", "test_processes.py")
"""Files begun first, since one that is begun last leaves the other cores waiting for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; xdist would take those with the most tests (see the Makefile)."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP model in open_clip's format: seeded random weights, 32 dimensions."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny_clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**TINY_CLIP)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    description = {"model_cfg": TINY_CLIP, "preprocess_cfg": TINY_PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="session")
def embedder(tiny_clip: Path):
    """The tiny CLIP, loaded on the CPU."""
    from clip_feature_codec.embed import ClipEmbedder

    return ClipEmbedder.load(str(tiny_clip), device="cpu")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; closed behind the last test of a module, since there is one playwright at a time."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def photo_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a folder of ``count`` PNG files of several shapes, some in a subfolder."""

    def make(count: int = 5, name: str = "photos") -> Path:
        folder = tmp_path / name
        (folder / "deep").mkdir(parents=True)
        for i in range(count):
            place = folder / "deep" if i % 3 == 2 else folder
            make_picture(i, (40 + 3 * i, 30 + i)).save(place / f"p{i:03}.png")
        return folder

    return make
